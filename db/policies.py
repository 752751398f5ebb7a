"""Retention, columnstore and refresh policies: idempotent, re-applied at each migration.

The refresh policies are the safety net. The coordinator (`db.refresh`) refreshes within seconds
what late events changed; a policy catches up where no coordinator runs.
"""

import psycopg
from psycopg import sql

from db.rollups import DAY, HOUR, ROLLUPS, Rollup

RAW_RETENTION_DAYS = (
    366  # a day more than events may be old: a row is never born into a dropped chunk
)
COLUMNSTORE_AFTER_DAYS = 7
# Where raw rows are gone a refresh would erase the rollup's: stay inside the retention.
REFRESH_START_DAYS = RAW_RETENTION_DAYS - 2

_READABLE = ("events", "event_items", *(rollup.name for rollup in ROLLUPS))


def apply_policies(connection: psycopg.Connection[object]) -> None:
    """Bring every policy and grant of one shard to what is written here."""
    for table in ("events", "event_items"):
        connection.execute(
            "SELECT add_retention_policy(%s::regclass, make_interval(days => %s), "
            "if_not_exists => true)",
            (table, RAW_RETENTION_DAYS),
        )
        connection.execute(
            "CALL add_columnstore_policy(%s::regclass, after => make_interval(days => %s), "
            "if_not_exists => true)",
            (table, COLUMNSTORE_AFTER_DAYS),
        )
    for table in ("rejected_event", "duplicate_event", "ingest_batch"):
        connection.execute(
            "SELECT add_retention_policy(%s::regclass, make_interval(days => %s), "
            "if_not_exists => true)",
            (table, RAW_RETENTION_DAYS + 34),
        )
    for rollup in ROLLUPS:
        _refresh_policy(connection, rollup)
    connection.execute(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'footfall_analyst') "
        "THEN CREATE ROLE footfall_analyst NOLOGIN; END IF; END $$"
    )
    for name in _READABLE:
        connection.execute(
            sql.SQL("GRANT SELECT ON {} TO footfall_analyst").format(sql.Identifier(name))
        )


def _refresh_policy(connection: psycopg.Connection[object], rollup: Rollup) -> None:
    lag = HOUR if rollup.bucket == HOUR else DAY
    connection.execute(
        "SELECT add_continuous_aggregate_policy(%s::regclass, "
        "start_offset => make_interval(days => %s), end_offset => %s, "
        "schedule_interval => INTERVAL '1 hour', if_not_exists => true)",
        (rollup.name, REFRESH_START_DAYS, lag),
    )
