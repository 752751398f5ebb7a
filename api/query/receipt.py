"""What became of one event: stored, a duplicate of one that was, or rejected and why."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from api.problems import problem
from api.query.freshness import Freshness
from api.query.language import RAW_ROWS
from api.query.meta import meta
from api.query.periods import Period
from api.query.place import Place, check_cost, fetch
from api.query.sql import Statement, affordable
from api.query.trip import told_with

_MOST: Final = 100

# An event id is no key: a client may have used it twice, at other times or for another event.
_OUTCOMES: Final = """
SELECT 'stored' AS status, ts AS timestamp, event, counted, NULL AS reason, NULL AS field,
       NULL AS detail, kafka_partition AS "partition", log_offset AS "offset", logged_at
  FROM events WHERE merchant_id = {merchant} AND ts >= {start} AND ts < {end}
   AND event_id = {event_id} AND {affordable}
UNION ALL
SELECT 'duplicate', ts, NULL, false, NULL, NULL, 'The same merchant, timestamp and event id had '
       'been stored before: this one is not counted.', kafka_partition, log_offset, logged_at
  FROM duplicate_event WHERE merchant_id = {merchant} AND event_id = {event_id}
UNION ALL
SELECT 'rejected', NULL, NULL, false, reason, field, detail, kafka_partition, log_offset, logged_at
  FROM rejected_event WHERE merchant_id = {merchant} AND event_id = {event_id}
"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The question: an event's id, and the range of event time in which it is looked for."""

    merchant_id: int
    event_id: str
    period: Period
    raw_rows: int = RAW_ROWS


def at_instant(moment: datetime, place: ZoneInfo) -> Period:
    """The range of one millisecond that holds an instant: events are stored to the millisecond."""
    moment -= timedelta(microseconds=moment.microsecond % 1000)
    return Period(moment, moment + timedelta(milliseconds=1), place)


def find(asked: Receipt, place: Place) -> Statement:
    """One row: `outcomes`, JSON, in the order of the log."""
    statement = Statement()
    bounds = (
        statement.parameter(asked.merchant_id, "int8"),
        statement.parameter(asked.period.start, "timestamptz"),
        statement.parameter(asked.period.end, "timestamptz"),
    )
    found = _OUTCOMES.format(
        merchant=bounds[0],
        start=bounds[1],
        end=bounds[2],
        event_id=statement.parameter(asked.event_id, "text"),
        affordable=affordable(statement, bounds, asked.raw_rows),
    )
    listed = (
        f"SELECT json_agg(found) AS outcomes FROM (SELECT * FROM ({found}) AS every "
        f'ORDER BY "partition", "offset" LIMIT {_MOST}) AS found'
    )
    return told_with(
        statement, ["listed.*"], [f"({listed}) AS listed"], (place.partition, place.topic)
    )


async def answer(asked: Receipt, place: Place) -> dict[str, Any]:
    """What became of the event, as the answer's body.

    Raises:
        ProblemDetailsException: 404, nothing is known of it; 422, too many raw rows to search.
        asyncpg.PostgresError, OSError: the shard cannot answer now.
    """
    told = await fetch(place, find(asked, place))
    check_cost(told["cost"], asked.raw_rows)
    fresh = Freshness.of(told)
    about = meta(fresh, asked.period.end, "raw", [])
    outcomes = msgspec.json.decode(told["outcomes"] or "[]")
    if not outcomes:
        raise problem(
            404,
            "unknown_event",
            "No event of that id is known with an event time in the range. It may be on its way: "
            f"every event logged up to {about['fresh_as_of']} is known. Without its timestamp an "
            "event is looked for in date_range alone.",
            fresh_as_of=about["fresh_as_of"],
        )
    statuses = {outcome["status"] for outcome in outcomes}
    status = next(s for s in ("stored", "duplicate", "rejected") if s in statuses)
    return {"event_id": asked.event_id, "status": status, "outcomes": outcomes, "meta": about}
