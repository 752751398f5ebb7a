"""Sums of money that saturate: at the limits of int8 they stay there instead of failing.

One row whose amount is absurd must not stop a refresh, which aggregates every merchant's rows, nor
the answer to a question. `sum(int8)` is numeric and cannot overflow; its cast to int8 can, and so
can a product of two integers before it is summed.
"""

from typing import Final

INT8_MAX: Final = 9223372036854775807

# price_minor * quantity. The product of a price in this range and any quantity fits int8, so that
# nearly all lines cost one multiplication; the others are computed as numeric and saturate.
_SAFE_PRICE: Final = 4294967295
LINE_MINOR: Final = (
    f"CASE WHEN price_minor > {_SAFE_PRICE} OR price_minor < -{_SAFE_PRICE} "
    f"THEN greatest(least(price_minor::numeric * quantity, {INT8_MAX}), -{INT8_MAX})::int8 "
    "ELSE price_minor * quantity END"
)


def saturated_sum(value: str, where: str | None = None) -> str:
    """SQL for the sum of `value` as int8, 0 where there is no row.

    Args:
        value: an int8 expression.
        where: counts only the rows that satisfy this condition.
    """
    rows = f" FILTER (WHERE {where})" if where else ""
    # coalesce first: least() and greatest() ignore a null
    total = f"coalesce(sum({value}){rows}, 0)"
    return f"greatest(least({total}, {INT8_MAX}), -{INT8_MAX})::int8"


def saturated(value: int) -> int:
    """The nearest value that int8 can hold."""
    return max(-INT8_MAX, min(INT8_MAX, value))
