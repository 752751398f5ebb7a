"""Who is there now: visitors of the last five minutes, and the last thirty minute by minute.

By event time, up to now, counted by visitor id, exactly. The last minute is still going on.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from api.query import written
from api.query.freshness import Freshness
from api.query.meta import meta
from api.query.place import Place, fetch
from api.query.sql import Statement
from api.query.trip import told_with

MINUTE: Final = timedelta(minutes=1)
MINUTES: Final = 30
_PRESENT: Final = 5 * MINUTE
_NAMES: Final = ("time", "visitors", "events", "page_views", "orders")


@dataclass(frozen=True, slots=True)
class Realtime:
    """The question, of an instant."""

    merchant_id: int
    now: datetime

    @property
    def first_minute(self) -> datetime:
        """The start of the first of the minutes shown."""
        return self.now.replace(second=0, microsecond=0) - (MINUTES - 1) * MINUTE


def count_visitors(asked: Realtime, place: Place) -> Statement:
    """One row: `present`, and the minutes that hold anything as arrays."""
    statement = Statement()
    merchant = statement.parameter(asked.merchant_id, "int8")
    start = statement.parameter(asked.first_minute, "timestamptz")
    now = statement.parameter(asked.now, "timestamptz")
    recent = statement.parameter(asked.now - _PRESENT, "timestamptz")
    of_shop = f"FROM events WHERE merchant_id = {merchant} AND NOT is_bot AND ts <= {now}"
    minutes = (
        "SELECT date_trunc('minute', ts, 'UTC') AS time, count(DISTINCT visitor) AS visitors, "
        "count(*) AS events, count(*) FILTER (WHERE event = 'page_view') AS page_views, "
        "count(*) FILTER (WHERE event = 'purchase' AND counted) AS orders "
        f"{of_shop} AND ts >= {start} GROUP BY 1"
    )
    arrays = ", ".join(f"array_agg({name}) AS {name}" for name in _NAMES)
    return told_with(
        statement,
        ["present.visitors AS present", "minutes.*"],
        [
            f"(SELECT count(DISTINCT visitor) AS visitors {of_shop} AND ts > {recent}) AS present",
            f"(SELECT {arrays} FROM ({minutes}) AS by_minute) AS minutes",
        ],
        (place.partition, place.topic),
    )


async def answer(asked: Realtime, place: Place) -> dict[str, Any]:
    """Who is there now, as the answer's body.

    Raises:
        asyncpg.PostgresError, OSError: the shard cannot answer now.
    """
    told = await fetch(place, count_visitors(asked, place))
    fresh = Freshness.of(told)
    rows = zip(*(told[name] or [] for name in _NAMES), strict=True)
    found = {time: counts for time, *counts in rows}
    minutes = []
    for n in range(MINUTES):
        at = asked.first_minute + n * MINUTE
        counts = dict(zip(_NAMES[1:], found.get(at, [0] * (len(_NAMES) - 1)), strict=True))
        minutes.append({"time": written.instant(at), **counts})
    halted = [f"New events are not being read: {fresh.halted}"] if fresh.halted else []
    return {
        "visitors": told["present"],
        "minutes": minutes,
        "meta": meta(fresh, asked.now, "raw", halted),
    }
