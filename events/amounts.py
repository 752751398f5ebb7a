"""Decimal strings as columns of integers."""

from typing import Final

import polars as pl

from events.money import EXPONENTS

PRICE_UNITS: Final = 10**4  # of a major unit: as fine as the finest currency


def in_price_units(amount: pl.Expr) -> pl.Expr:
    """A decimal string as an integer of ten-thousandths; null where it is no such string."""
    parts = amount.str.splitn(".", 2)
    whole = parts.struct.field("field_0").cast(pl.Int64, strict=False)
    digits = parts.struct.field("field_1").fill_null("").str.pad_end(4, "0").str.slice(0, 4)
    return whole * PRICE_UNITS + digits.cast(pl.Int64, strict=False)


def minor_units(amount: pl.Expr, currency: pl.Expr) -> pl.Expr:
    """A decimal string as integer minor units of its currency."""
    exponent = currency.replace_strict(EXPONENTS, default=None, return_dtype=pl.Int64)
    return in_price_units(amount) // pl.lit(10, pl.Int64).pow(4 - exponent)
