"""Sums that are made here saturate as those of the database."""

from datetime import UTC, date, datetime

import polars as pl

from db.measures import Sum, added
from db.saturation import INT8_MAX, saturated
from reprocess.sums import beside, by_day

DAY = date(2026, 9, 1)


def purchases(values: list[int | None]) -> pl.DataFrame:
    """A merchant's purchases of one day."""
    count = len(values)
    return pl.DataFrame(
        {
            "merchant_id": [1] * count,
            "ts": [datetime(2026, 9, 1, 12, tzinfo=UTC)] * count,
            "event": ["purchase"] * count,
            "currency": ["EUR"] * count,
            "is_bot": [False] * count,
            "counted": [True] * count,
            "units": [1] * count,
            "value_minor": values,
        },
        schema_overrides={"value_minor": pl.Int64, "units": pl.Int32, "merchant_id": pl.Int64},
    )


def revenue(old: list[int | None], new: list[int | None]) -> tuple[int, int]:
    """What a replacement shows of the day's revenue, before and after."""
    sums = by_day(beside(purchases(old), purchases(new)))
    (found,) = [each for each in sums if each.measure == "revenue EUR"]
    return found.before, found.after


def test_the_sums_of_a_replacement_saturate_instead_of_wrapping_around() -> None:
    assert revenue([INT8_MAX, INT8_MAX, None], [5, None, 7]) == (INT8_MAX, 12)
    assert revenue([INT8_MAX - 1, 1], [1]) == (INT8_MAX, 1)


def test_sums_of_several_slices_saturate() -> None:
    most = Sum(DAY, "revenue EUR", INT8_MAX - 1, 3)
    assert added([most], [most]) == [Sum(DAY, "revenue EUR", INT8_MAX, 6)]


def test_the_nearest_value_that_int8_holds() -> None:
    assert [saturated(value) for value in (2**70, -(2**70), 42)] == [INT8_MAX, -INT8_MAX, 42]
