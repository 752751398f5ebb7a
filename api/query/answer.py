"""Asking the shard and writing the answer: columns all the way, rows only in the body."""

import asyncio
import dataclasses
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final

import asyncpg

from api.query.catalogue import METRICS
from api.query.freshness import Freshness
from api.query.language import Question
from api.query.plan import Plan, plan
from api.query.sql import in_one_trip, select
from events.money import to_decimal

HLL_ERROR: Final = 0.0163
Columns = dict[str, list[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a merchant's rows live."""

    pool: asyncpg.Pool
    partition: int
    topic: str


async def answer(question: Question, place: Place) -> dict[str, Any]:
    """The answer to a question, as its JSON body.

    Raises:
        asyncpg.PostgresError, OSError: the shard cannot answer now.
    """
    planned = plan(question)
    wants_totals = question.include.totals
    told, comparison, totals = await asyncio.gather(
        _told(question, planned, place),
        _comparison(question, place) if question.include.comparison else _nothing(),
        _totals(question, planned, place) if _needs_asking(question) else _nothing(),
    )
    columns, more = _page(question, told)
    body = _body(question, planned, columns, told)
    body["next_cursor"] = str(question.offset + question.limit) if more else None
    if comparison is not None:
        before, totals = comparison
        body["comparison"] = _compared(question, before, totals)
    if wants_totals and totals is None and (more or question.offset):
        totals = await _totals(question, planned, place)
    if wants_totals:
        sums = {name: sum(filter(None, columns[name])) for name in question.metrics}
        body["totals"] = _metrics(question, sums if totals is None else totals)
    return body


async def _nothing() -> None:
    return None


def _needs_asking(question: Question) -> bool:
    """Whether totals are wanted that are neither the rows' sums nor part of a comparison."""
    wanted = question.include.totals and not question.include.comparison
    return wanted and not _adds_up(question)


def _adds_up(question: Question) -> bool:
    """Whether the totals are the sums of the rows."""
    return all(METRICS[name].adds_up for name in question.metrics)


async def _told(question: Question, planned: Plan, place: Place) -> asyncpg.Record:
    statement = in_one_trip(question, planned, place.partition, place.topic)
    found = await place.pool.fetchrow(statement.text, *statement.parameters)
    assert found is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return found


async def _totals(question: Question, planned: Plan, place: Place) -> asyncpg.Record:
    statement = select(question, planned, totals=True)
    found = await place.pool.fetchrow(statement.text, *statement.parameters)
    assert found is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return found


async def _comparison(
    question: Question, place: Place
) -> tuple[tuple[Question, asyncpg.Record], asyncpg.Record]:
    """Totals of the period before, and of this one."""
    before = dataclasses.replace(question, period=question.period.previous())
    then, now = await asyncio.gather(
        _totals(before, plan(before), place), _totals(question, plan(question), place)
    )
    return (before, then), now


def _compared(
    question: Question, before: tuple[Question, asyncpg.Record], now: asyncpg.Record
) -> dict[str, Any]:
    """Totals of the period before, and the change against it in per cent."""
    asked, found = before
    then, today = _metrics(asked, found), _metrics(question, now)
    return {
        "date_range": [_instant(asked.period.start), _instant(asked.period.end)],
        "totals": then,
        "change_percent": {name: _change(then[name], today[name]) for name in question.metrics},
    }


def _page(question: Question, told: asyncpg.Record) -> tuple[Columns, bool]:
    """The columns of the rows to show, and whether there are more."""
    found = {name: told[name] or [] for name in question.columns}
    if question.interval and not question.dimensions and not question.order_by:
        return _zero_filled(question, found)
    count = len(found[question.columns[0]])
    if count <= question.limit:
        return found, False
    return {name: column[: question.limit] for name, column in found.items()}, True


def _zero_filled(question: Question, found: Columns) -> tuple[Columns, bool]:
    """A series has a point for every bucket, whether anything happened in it or not."""
    assert question.interval is not None  # noqa: S101 - the caller asked for a series
    buckets = question.period.buckets(question.interval)
    shown = list(buckets[question.offset : question.offset + question.limit])
    times = found["time"][: question.limit]
    if times != shown:
        place_of = {time: place for place, time in enumerate(times)}
        places = [place_of.get(time) for time in shown]
        found = {
            name: [None if place is None else found[name][place] for place in places]
            for name in question.metrics
        }
    columns = {"time": shown, **{name: found[name][: len(shown)] for name in question.metrics}}
    return columns, question.offset + len(shown) < len(buckets)


def _body(
    question: Question, planned: Plan, columns: Columns, told: asyncpg.Record
) -> dict[str, Any]:
    fresh = Freshness.of(told, planned.source)
    approximate = (
        {"visitors": {"method": "hll", "relative_error": HLL_ERROR}}
        if "visitors" in question.metrics
        else {}
    )
    warnings = []
    if told["others"]:
        others = ", ".join(told["others"])
        warnings.append(f"Money is in {question.currency} alone; there is also some in {others}.")
    if fresh.halted:
        warnings.append(f"New events are not being read: {fresh.halted}")
    return {
        "rows": _rows(question, columns),
        "meta": {
            "fresh_as_of": _instant(fresh.as_of) if fresh.as_of else None,
            "complete": fresh.as_of is not None and fresh.as_of >= question.period.end,
            "source": planned.source,
            "approximate": approximate,
            "logic_version": fresh.logic_version,
            "warnings": warnings,
        },
        "query": _understood(question),
    }


def _rows(question: Question, columns: Columns) -> list[dict[str, Any]]:
    names = question.columns
    written = [_written(question, name, columns[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*written, strict=True)]


def _written(question: Question, name: str, column: list[Any]) -> list[Any]:
    """A column as the body shows it."""
    if name == "time":
        assert question.interval is not None  # noqa: S101 - there is a time column
        labels = question.period.labels(question.interval)
        return [labels[time] for time in column]
    if name in question.dimensions:
        return column
    return [_value(name, value, question.currency) for value in column]


def _understood(question: Question) -> dict[str, Any]:
    period = question.period
    time = [f"time:{question.interval}"] if question.interval else []
    return {
        "merchant_id": question.merchant_id,
        "metrics": list(question.metrics),
        "date_range": [_local(period.start, question), _local(period.end, question)],
        "dimensions": [*time, *question.dimensions],
        "timezone": period.zone.key,
        "currency": question.currency,
        "order_by": [list(each) for each in question.order_by],
        "limit": question.limit,
    }


def _metrics(question: Question, totals: asyncpg.Record | dict[str, Any]) -> dict[str, Any]:
    return {name: _value(name, totals[name], question.currency) for name in question.metrics}


def _value(name: str, value: Any, currency: str) -> Any:
    """A metric's value as the body shows it: no count is 0, a ratio over none is null."""
    unit = METRICS[name].unit
    if unit == "count":
        return int(value or 0)
    if unit == "money":
        if value is None and name == "average_order_value":
            return None
        return {"amount": _amount(value or 0, currency), "currency": currency}
    return None if value is None else round(float(value), 6)


@lru_cache(65_536)
def _amount(minor: float, currency: str) -> str:
    if not isinstance(minor, int):
        minor = int(Decimal(str(minor)).to_integral_value(ROUND_HALF_EVEN))
    return to_decimal(minor, currency)


def _change(before: Any, now: Any) -> float | None:
    def number(value: Any) -> float | None:
        if isinstance(value, dict):
            return float(value["amount"])
        return None if value is None else float(value)

    then, today = number(before), number(now)
    if not then or today is None:
        return None
    return round(100 * (today - then) / then, 2)


def _local(moment: datetime, question: Question) -> str:
    return moment.astimezone(question.period.zone).isoformat()


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
