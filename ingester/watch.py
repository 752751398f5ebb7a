"""Asking a shard how it is, and telling Prometheus."""

from typing import Final

import asyncpg

from db.errors import TROUBLES
from db.verifications import standing
from ingester import telemetry

_STATE: Final = """
WITH failing_rollup AS (SELECT DISTINCT rollup FROM refresh_day WHERE failed_at IS NOT NULL)
SELECT held.applied, held.halted,
       (SELECT count(*) FROM timescaledb_information.job_stats WHERE last_run_status = 'Failed')
           AS failing,
       (SELECT extract(epoch FROM min(refreshed_at)) FROM refresh_state
         WHERE rollup NOT IN (SELECT rollup FROM failing_rollup)) AS refreshed,
       (SELECT count(*) FROM failing_rollup) AS failing_rollups,
       (SELECT count(*) FROM refresh_day) AS queued,
       pg_database_size(current_database()) AS bytes
  FROM (SELECT extract(epoch FROM min(applied_until)) AS applied, count(halted_reason) AS halted
          FROM ingest_offset WHERE topic = $1 AND moved_to IS NULL) AS held
"""


async def watch_shard(shard: int, pool: asyncpg.Pool, topic: str) -> None:
    """Set the shard's gauges once.

    Raises:
        asyncpg.PostgresError, OSError: it does not answer; its `footfall_shard_up` is 0 then.
    """
    try:
        (row,) = await pool.fetch(_STATE, topic, timeout=10)
        verified = await standing(pool, topic)
    except TROUBLES:
        telemetry.SHARD_UP.labels(shard).set(0)
        raise
    telemetry.SHARD_UP.labels(shard).set(1)
    telemetry.SHARD_HALTED.labels(shard).set(row["halted"])
    telemetry.SHARD_FAILING_JOBS.labels(shard).set(row["failing"])
    telemetry.SHARD_FAILING_ROLLUPS.labels(shard).set(row["failing_rollups"])
    telemetry.SHARD_REFRESH_QUEUE.labels(shard).set(row["queued"])
    telemetry.SHARD_BYTES.labels(shard).set(row["bytes"])
    # Before the first batch there is nothing that could be late.
    if row["applied"] is not None:
        telemetry.SHARD_APPLIED.labels(shard).set(row["applied"])
    if row["refreshed"] is not None:
        telemetry.SHARD_REFRESHED.labels(shard).set(row["refreshed"])
    telemetry.VERIFY_DIFFERENCES.labels(shard).set(verified.differences)
    if verified.until is not None:
        telemetry.VERIFY_UNTIL.labels(shard).set(verified.until.timestamp())
