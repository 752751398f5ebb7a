"""Pieces of SQL that several boards use."""

from typing import Final

from dashboards.panels import Variable
from events.money import EXPONENTS

MERCHANT: Final = Variable(
    "merchant",
    "Merchant",
    sql="SELECT merchant_id FROM traffic_daily WHERE bucket >= $__timeFrom()::timestamptz - "
    "INTERVAL '1 day' AND bucket < $__timeTo()::timestamptz GROUP BY merchant_id "
    "ORDER BY sum(events) DESC LIMIT 5000",
)
COMPARISON: Final = Variable(
    "comparison", "Compared with", options=("7 days", "1 day", "28 days", "364 days")
)
# Whole UTC days that touch the range, and whole hours within it.
DAYS: Final = (
    "bucket >= date_trunc('day', $__timeFrom()::timestamptz, 'UTC') "
    "AND bucket < $__timeTo()::timestamptz"
)
HOURS: Final = "bucket >= $__timeFrom()::timestamptz AND bucket < $__timeTo()::timestamptz"
BEFORE: Final = (
    "bucket >= $__timeFrom()::timestamptz - INTERVAL '$comparison' "
    "AND bucket < $__timeTo()::timestamptz - INTERVAL '$comparison'"
)
OF_MERCHANT: Final = "merchant_id = $merchant"


def money(minor: str, currency: str = "currency") -> str:
    """An amount in the currency's own unit, from its minor units."""
    by_exponent: dict[int, list[str]] = {}
    for code, exponent in sorted(EXPONENTS.items()):
        if exponent == 2:
            continue  # what ELSE says
        by_exponent.setdefault(exponent, []).append(f"'{code}'")
    cases = " ".join(
        f"WHEN {currency} IN ({', '.join(codes)}) THEN {minor}::numeric / {10**exponent}"
        for exponent, codes in sorted(by_exponent.items())
    )
    return f"CASE {cases} ELSE {minor}::numeric / 100 END"
