"""Which visitors come back: cohorts by the day, week or month in which they were first seen.

A visitor is first seen at the earliest of their events that is kept, in the range or before it;
cohorts are of those who were first seen within the range. Period 0 is the cohort's own. A visitor
came back in period n who has an event in the n-th day, week or month after it, before the range's
end. Periods are local ones of the zone. Visitors are counted by id, exactly.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from api.problems import invalid
from api.query import written
from api.query.freshness import Freshness
from api.query.funnel import without_products
from api.query.language import RAW_ROWS, Combined
from api.query.meta import meta
from api.query.periods import Period, resolve, zone
from api.query.place import Place, check_cost, fetch
from api.query.sql import Statement, affordable, condition
from api.query.trip import told_with

MAX_COHORTS: Final = 100


class RetentionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A question of retention, as clients write it."""

    interval: Literal["day", "week", "month"] = "week"
    date_range: str | list[str] = "90d"
    filters: list[Any] = []
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """A question of retention that can be counted."""

    merchant_id: int
    interval: Literal["day", "week", "month"]
    period: Period
    where: Combined
    kept_since: datetime  # the oldest raw rows there may be
    raw_rows: int = RAW_ROWS


def understand(
    body: RetentionBody, merchant_id: int, timezone: str, now: datetime, raw_days: int
) -> Retention:
    """Check a body and resolve it.

    Raises:
        ProblemDetailsException: it cannot be understood; the sentence says how to mend it.
    """
    period = resolve(body.date_range, zone(body.timezone or timezone), now)
    cohorts = len(period.buckets(body.interval))
    if cohorts > MAX_COHORTS:
        raise invalid(
            "interval",
            f"{cohorts} cohorts are too many, at most {MAX_COHORTS}: ask by week or month, or for "
            "a shorter range.",
        )
    # cut to the day, so that the question stays the same one from request to request
    kept = (now - timedelta(days=raw_days + 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    where = without_products(body.filters)
    return Retention(merchant_id, body.interval, period, where, min(kept, period.start))


def count_visitors(asked: Retention, place: Place) -> Statement:
    """One row of three arrays: cohort, period (both places of local buckets, from 1), visitors."""
    statement = Statement()
    merchant = statement.parameter(asked.merchant_id, "int8")
    kept = statement.parameter(asked.kept_since, "timestamptz")
    end = statement.parameter(asked.period.end, "timestamptz")
    start = statement.parameter(asked.period.start, "timestamptz")
    starts = statement.parameter(list(asked.period.buckets(asked.interval)), "timestamptz[]")
    seen = (
        f"SELECT visitor, width_bucket(ts, {starts}) AS period, "
        f"min(ts) AS first FROM events WHERE merchant_id = {merchant} AND ts >= {kept} "
        f"AND ts < {end} AND NOT is_bot AND {condition(asked.where, statement)} "
        f"AND {affordable(statement, (merchant, kept, end), asked.raw_rows)} GROUP BY 1, 2"
    )
    born = (
        "SELECT period, min(period) OVER (PARTITION BY visitor) AS cohort, "
        f"min(first) OVER (PARTITION BY visitor) AS born FROM ({seen}) AS seen"
    )
    cells = (
        f"SELECT cohort, period, count(*) AS visitors FROM ({born}) AS born "
        f"WHERE born >= {start} GROUP BY cohort, period"
    )
    arrays = ", ".join(f"array_agg({name}) AS {name}" for name in ("cohort", "period", "visitors"))
    counted = f"(SELECT {arrays} FROM ({cells}) AS cells) AS counted"
    return told_with(statement, ["counted.*"], [counted], (place.partition, place.topic))


async def answer(asked: Retention, place: Place) -> dict[str, Any]:
    """The cohorts, as the answer's body.

    Raises:
        ProblemDetailsException: 422, it would read too many raw rows.
        asyncpg.PostgresError, OSError: the shard cannot answer now.
    """
    told = await fetch(place, count_visitors(asked, place))
    check_cost(told["cost"], asked.raw_rows)
    fresh = Freshness.of(told)
    columns = (told["cohort"] or [], told["period"] or [], told["visitors"] or [])
    found = {(cohort, period): count for cohort, period, count in zip(*columns, strict=True)}
    labels = asked.period.labels(asked.interval)
    cohorts = []
    for cohort, label in enumerate(labels.values(), 1):
        size = found.get((cohort, cohort), 0)
        visitors = [found.get((cohort, later), 0) for later in range(cohort, len(labels) + 1)]
        cohorts.append(
            {
                "cohort": label,
                "size": size,
                "visitors": visitors,
                "rates": [round(count / size, 6) if size else None for count in visitors],
            }
        )
    return {
        "cohorts": cohorts,
        "meta": meta(
            fresh,
            asked.period.end,
            "raw",
            [f"New events are not being read: {fresh.halted}"] if fresh.halted else [],
        ),
        "query": {
            "merchant_id": asked.merchant_id,
            "interval": asked.interval,
            "date_range": written.local_range(asked.period),
            "timezone": asked.period.zone.key,
        },
    }
