"""Answers while history is being replaced: the days whose rows are new and whose rollups are not
yet are taken from the rows, so that a reader sees the old numbers or the new, never a mixture.

The slices that are between the two stand in the shard, written by the transaction that replaced the
rows: a statement's own snapshot says which they are.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from api.query.plan import Reading
from db.rollups import BY_NAME, DAY, PURCHASED, SESSION_MEASURES, Rollup
from db.saturation import LINE_MINOR

Window = tuple[datetime, datetime]


def _raw_measures(units: str, value_minor: str) -> str:
    """What one raw row adds to the measures of an additive rollup."""
    return (
        f"1 AS events, ({PURCHASED})::int AS orders, "
        f"CASE WHEN {PURCHASED} THEN {units} ELSE 0 END AS units, "
        f"CASE WHEN counted THEN coalesce({value_minor}, 0) ELSE 0 END AS value_minor"
    )


RAW_MEASURES: Final = {
    "events": _raw_measures("units", "value_minor"),
    "event_items": _raw_measures("quantity", LINE_MINOR),
}

# Whole UTC days: the coarsest bucket of any rollup. A column of the one row that tells freshness.
REPLACING: Final = """(SELECT array_agg(DISTINCT date_trunc('day', hour, 'UTC'))
  FROM reprocess_slice, unnest(changed) AS part,
       generate_series(lower(part), upper(part) - INTERVAL '1 hour', INTERVAL '1 hour') AS hour
 WHERE state = 'replaced' AND kafka_partition = {partition})"""


def windows(days: Sequence[datetime] | None, start: datetime, end: datetime) -> tuple[Window, ...]:
    """The days that matter to a range, as few windows as may be. A session's day counts from its
    midnight, which may lie before the range."""
    found: list[Window] = []
    for day in sorted(days or ()):
        at = day.astimezone(UTC)
        if at + DAY <= start - timedelta(days=1) or at >= end:
            continue
        if found and found[-1][1] == at:
            found[-1] = (found[-1][0], at + DAY)
        else:
            found.append((at, at + DAY))
    return tuple(found)


def beside_rows(reading: Reading, merchant: str, bounds: Sequence[tuple[str, str]]) -> str:
    """A rollup's relation, the rows of these windows taken from raw rows.

    Args:
        merchant: a placeholder.
        bounds: placeholders of each window's start and end.
    """
    rollup = BY_NAME[reading.relation]
    outside = " AND ".join(f"NOT (bucket >= {a} AND bucket < {b})" for a, b in bounds)
    inside = " OR ".join(f"(ts >= {a} AND ts < {b})" for a, b in bounds)
    columns = ", ".join(rollup.columns)
    return (
        f"(SELECT {columns} FROM {rollup.name} WHERE merchant_id = {merchant} AND {outside} "
        f"UNION ALL {_raw(rollup, merchant, inside)}) AS {rollup.name}"
    )


def _raw(rollup: Rollup, merchant: str, inside: str) -> str:
    """Raw rows in the shape of a rollup's."""
    where = f"merchant_id = {merchant} AND ({inside})"
    if rollup.family in ("session", "session_summary"):
        return _raw_sessions(rollup, where)
    table = "event_items" if rollup.family == "product" else "events"
    if not rollup.name.startswith("device_"):  # the one that keeps bots
        where += " AND NOT is_bot"
    hours = int(rollup.bucket.total_seconds() // 3600)
    bucket = f"time_bucket(INTERVAL '{hours} hours', ts) AS bucket"
    values = "visitor_rank" if rollup.family == "visitors" else RAW_MEASURES[table]
    selected = ", ".join([bucket, "merchant_id", *rollup.dimensions, values])
    return f"SELECT {selected} FROM {table} WHERE {where}"


def _raw_sessions(rollup: Rollup, where: str) -> str:
    made = ", ".join(f"{m.expression} AS {m.name}" for m in SESSION_MEASURES)
    sessions = (
        f"SELECT time_bucket('1 day', ts) AS bucket, merchant_id, session, {made} FROM events "
        f"WHERE {where} AND session IS NOT NULL AND NOT is_bot GROUP BY 1, 2, 3"
    )
    if rollup.family == "session":
        return sessions
    computed: dict[str, Any] = dict(rollup.computed)
    keys = [f"{computed[d]} AS {d}" if d in computed else d for d in rollup.dimensions]
    values = [f"{m.expression} AS {m.name}" for m in rollup.measures]
    groups = ", ".join(str(number) for number in range(1, 3 + len(keys)))
    return (
        f"SELECT {', '.join(['bucket', 'merchant_id', *keys, *values])} "
        f"FROM ({sessions}) AS session_daily GROUP BY {groups}"
    )
