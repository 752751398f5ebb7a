"""Asking the shard and writing the answer."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import asyncpg

from api.query.catalogue import METRICS
from api.query.freshness import Freshness, freshness
from api.query.language import Question
from api.query.plan import Plan, plan
from api.query.sql import select
from events.money import to_decimal

HLL_ERROR: Final = 0.0163
_OTHER_CURRENCIES: Final = """
SELECT DISTINCT currency FROM traffic_daily
 WHERE merchant_id = $1 AND bucket >= $2::timestamptz - INTERVAL '1 day' AND bucket < $3
   AND currency <> $4 AND event IN ('purchase', 'refund') ORDER BY 1
"""


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
    # Freshness is read before the rows: what it promises is then in them, and perhaps more.
    fresh = await _fresh(planned, place)
    async with asyncio.TaskGroup() as reading:
        rows = reading.create_task(_rows(question, planned, place))
        warnings = reading.create_task(_warnings(question, place))
        totals = comparison = None
        if question.include.totals:
            totals = reading.create_task(_totals(question, planned, place))
        if question.include.comparison:
            comparison = reading.create_task(_comparison(question, place))
    body = _body(question, planned, rows.result(), fresh, warnings.result())
    if totals is not None:
        body["totals"] = totals.result()
    if comparison is not None:
        body["comparison"] = comparison.result()
    return body


async def _rows(question: Question, planned: Plan, place: Place) -> list[dict[str, Any]]:
    statement = select(question, planned)
    found = await place.pool.fetch(statement.text, *statement.parameters)
    return [_row(question, record) for record in found]


async def _fresh(planned: Plan, place: Place) -> Freshness:
    async with place.pool.acquire() as connection:
        return await freshness(connection, place.partition, place.topic, planned.source)


async def _totals(question: Question, planned: Plan, place: Place) -> dict[str, Any]:
    statement = select(question, planned, totals=True)
    found = await place.pool.fetchrow(statement.text, *statement.parameters)
    assert found is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return _metrics(question, found)


async def _comparison(question: Question, place: Place) -> dict[str, Any]:
    """Totals of the period before, and the change against it in per cent."""
    before = dataclasses.replace(question, period=question.period.previous())
    then, now = await asyncio.gather(
        _totals(before, plan(before), place), _totals(question, plan(question), place)
    )
    return {
        "date_range": [_instant(before.period.start), _instant(before.period.end)],
        "totals": then,
        "change_percent": {name: _change(then[name], now[name]) for name in question.metrics},
    }


async def _warnings(question: Question, place: Place) -> list[str]:
    if not any(METRICS[name].unit == "money" for name in question.metrics):
        return []
    found = await place.pool.fetch(
        _OTHER_CURRENCIES,
        question.merchant_id,
        question.period.start,
        question.period.end,
        question.currency,
    )
    others = ", ".join(record["currency"] for record in found)
    if not others:
        return []
    return [f"Money is in {question.currency} alone; there is also some in {others}."]


def _body(
    question: Question,
    planned: Plan,
    rows: list[dict[str, Any]],
    fresh: Freshness,
    warnings: list[str],
) -> dict[str, Any]:
    more = len(rows) > question.limit
    rows = rows[: question.limit]
    if question.interval and not question.dimensions and not question.order_by:
        rows, more = _zero_filled(question, rows)
    approximate = (
        {"visitors": {"method": "hll", "relative_error": HLL_ERROR}}
        if "visitors" in question.metrics
        else {}
    )
    if fresh.halted:
        warnings = [*warnings, f"New events are not being read: {fresh.halted}"]
    return {
        "rows": rows,
        "meta": {
            "fresh_as_of": _instant(fresh.as_of) if fresh.as_of else None,
            "complete": fresh.as_of is not None and fresh.as_of >= question.period.end,
            "source": planned.source,
            "approximate": approximate,
            "logic_version": fresh.logic_version,
            "warnings": warnings,
        },
        "query": _understood(question),
        "next_cursor": str(question.offset + question.limit) if more else None,
    }


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


def _zero_filled(
    question: Question, rows: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], bool]:
    """A series has a point for every bucket, whether anything happened in it or not."""
    assert question.interval is not None  # noqa: S101 - the caller asked for a series
    known = {row["time"]: row for row in rows}
    buckets = question.period.buckets(question.interval)
    shown = buckets[question.offset : question.offset + max(question.limit, len(rows))]
    nothing = {name: _value(name, None, question) for name in question.metrics}
    series = []
    for start in shown:
        time = start.isoformat()
        series.append(known.get(time) or {"time": time, **nothing})
    return series, question.offset + len(shown) < len(buckets)


def _row(question: Question, record: asyncpg.Record | Mapping[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if question.interval:
        keys["time"] = _local(record["time"], question)
    keys |= {name: record[name] for name in question.dimensions}
    return keys | _metrics(question, record)


def _metrics(question: Question, record: asyncpg.Record | Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(name, record[name], question) for name in question.metrics}


def _value(name: str, value: Any, question: Question) -> Any:
    unit = METRICS[name].unit
    if unit == "money":
        if value is None and name == "average_order_value":
            return None
        minor = int(Decimal(str(value or 0)).to_integral_value(ROUND_HALF_EVEN))
        return {"amount": to_decimal(minor, question.currency), "currency": question.currency}
    if unit == "count":
        return int(value or 0)
    return None if value is None else round(float(value), 6)


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
