"""Numbers as an answer shows them: no count is 0, a ratio over none is null, money is a decimal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

from api.query.catalogue import METRICS
from api.query.language import Question
from api.query.periods import Period
from events.money import to_decimal

Columns = dict[str, list[Any]]


def rows(question: Question, columns: Columns) -> list[dict[str, Any]]:
    """The columns as rows, keyed by their names."""
    names = question.columns
    written = [column(question, name, columns[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*written, strict=True)]


def column(question: Question, name: str, values: list[Any]) -> list[Any]:
    """A column as the body shows it."""
    if name == "time":
        assert question.interval is not None  # noqa: S101 - there is a time column
        labels = question.period.labels(question.interval)
        return [labels[time] for time in values]
    if name in question.dimensions:
        return values
    if METRICS[name].unit == "count":
        return [value or 0 for value in values]
    return [value_of(name, value, question.currency) for value in values]


def metrics(question: Question, found: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The question's metrics out of a row that bears them under `prefix`."""
    return {
        name: value_of(name, found[prefix + name], question.currency) for name in question.metrics
    }


def value_of(name: str, value: Any, currency: str) -> Any:
    """A metric's value."""
    unit = METRICS[name].unit
    if unit == "count":
        return int(value or 0)
    if unit == "money":
        if value is None and name == "average_order_value":
            return None
        return {"amount": amount(value or 0, currency), "currency": currency}
    return None if value is None else round(float(value), 6)


@lru_cache(65_536)
def amount(minor: float, currency: str) -> str:
    """Minor units, rounded to whole ones, as a decimal."""
    if not isinstance(minor, int):
        minor = int(Decimal(str(minor)).to_integral_value(ROUND_HALF_EVEN))
    return to_decimal(minor, currency)


def changes(
    question: Question, before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, float | None]:
    """The change of each metric in per cent; null where there was nothing before."""
    return {name: _change(before[name], now[name]) for name in question.metrics}


def _change(before: Any, now: Any) -> float | None:
    def number(value: Any) -> float | None:
        if isinstance(value, dict):
            return float(value["amount"])
        return None if value is None else float(value)

    then, today = number(before), number(now)
    if not then or today is None:
        return None
    return round(100 * (today - then) / then, 2)


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def local_range(period: Period) -> list[str]:
    """A range, RFC 3339 in its zone."""
    return [at.astimezone(period.zone).isoformat() for at in (period.start, period.end)]
