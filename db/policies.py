"""Retention, columnstore and refresh policies: idempotent, re-applied at each migration.

The refresh policies are the safety net. The coordinator (`db.refresh`) refreshes within seconds
what late events changed; a policy catches up where no coordinator runs.
"""

import psycopg

from db.rollups import DAY, ROLLUPS, Rollup

RAW_RETENTION_DAYS = (
    366  # a day more than events may be old: a row is never born into a dropped chunk
)
# Of raw rows and rollups alike: few events are later than a week, and a bucket that one of them
# falls into costs a refresh that unpacks other merchants' rows of the bucket too.
COLUMNSTORE_AFTER_DAYS = 7
# Where raw rows are gone a refresh would erase the rollup's: stay inside the retention.
REFRESH_START_DAYS = RAW_RETENTION_DAYS - 2
# How much one run of a refresh policy does, a day at a time. The coordinator fills a rollup that a
# migration has created again; a policy that refreshes the same day blocks it.
POLICY_DAYS = 10


def apply_policies(connection: psycopg.Connection[object], max_age_days: int = 365) -> None:
    """Bring every policy of one shard to what is written here.

    Args:
        connection: in autocommit.
        max_age_days: how old an event may be. Raw rows are kept a day longer, and never for a
            shorter time than they were: what a backfill brought in stays.
    """
    raw_days = max(RAW_RETENTION_DAYS, max_age_days + 1)
    for table in ("events", "event_items"):
        _retention_policy(connection, table, raw_days)
        _columnstore_policy(connection, table)
    for table in ("rejected_event", "duplicate_event", "ingest_batch"):
        _retention_policy(connection, table, RAW_RETENTION_DAYS + 34)
    for rollup in ROLLUPS:
        _refresh_policy(connection, rollup)
        _columnstore_policy(connection, rollup.name)
        # A rollup that no pass has reached yet must not look as fresh as those before it.
        connection.execute(
            "INSERT INTO refresh_state (rollup, refreshed_at) VALUES (%s, '2000-01-01Z') "
            "ON CONFLICT DO NOTHING",
            (rollup.name,),
        )


def _retention_policy(connection: psycopg.Connection[object], table: str, days: int) -> None:
    """Keep rows for so many days, or for longer where the policy says so already."""
    shorter = connection.execute(
        "SELECT (config ->> 'drop_after')::interval < make_interval(days => %s) "
        "FROM timescaledb_information.jobs "
        "WHERE proc_name = 'policy_retention' AND hypertable_name = %s",
        (days, table),
    ).fetchone()
    if shorter == (True,):
        connection.execute("SELECT remove_retention_policy(%s::regclass)", (table,))
    connection.execute(
        "SELECT add_retention_policy(%s::regclass, make_interval(days => %s), "
        "if_not_exists => true)",
        (table, days),
    )


def _columnstore_policy(connection: psycopg.Connection[object], relation: str) -> None:
    """Chunks whose last row is old enough become columns; those that were unpacked, again."""
    connection.execute(
        "CALL add_columnstore_policy(%s::regclass, after => make_interval(days => %s), "
        "if_not_exists => true)",
        (relation, COLUMNSTORE_AFTER_DAYS),
    )


def _refresh_policy(connection: psycopg.Connection[object], rollup: Rollup) -> None:
    """Oldest first: a newer window moves the watermark, and answers then miss the rows of older
    windows that were never refreshed."""
    newest_first = connection.execute(
        "SELECT coalesce(config ->> 'refresh_newest_first', 'true') "
        "FROM timescaledb_information.jobs AS job "
        "JOIN timescaledb_information.continuous_aggregates AS rollup "
        "  ON job.hypertable_name IN (view_name, materialization_hypertable_name) "
        "WHERE proc_name = 'policy_refresh_continuous_aggregate' AND view_name = %s",
        (rollup.name,),
    ).fetchone()
    if newest_first == ("true",):
        connection.execute(
            "SELECT remove_continuous_aggregate_policy(%s::regclass)", (rollup.name,)
        )
    connection.execute(
        "SELECT add_continuous_aggregate_policy(%s::regclass, "
        "start_offset => make_interval(days => %s), end_offset => %s, "
        "schedule_interval => INTERVAL '1 hour', buckets_per_batch => %s, "
        "max_batches_per_execution => %s, refresh_newest_first => false, "
        "initial_start => date_trunc('hour', now()) + INTERVAL '1 hour 30 minutes', "
        "if_not_exists => true)",
        (rollup.name, REFRESH_START_DAYS, rollup.bucket, DAY // rollup.bucket, POLICY_DAYS),
    )
