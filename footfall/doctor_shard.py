"""A check of one database: its version and schema, its jobs, and how far it has come."""

from typing import Any, Final

import asyncpg

from db.errors import TROUBLES
from db.pools import READER_SETTINGS, open_pool
from db.schema import newest_revision
from footfall.findings import Finding

OLDEST_TIMESCALE: Final = (2, 29, 2)
OLDEST_POSTGRES: Final = 17
LATE_S: Final = 900

_VERSIONS: Final = """
SELECT current_setting('server_version_num')::int / 10000 AS postgres, version() AS whole,
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescale
"""
_HALTED: Final = """
SELECT kafka_partition, halted_reason FROM ingest_offset
 WHERE topic = $1 AND halted_reason IS NOT NULL ORDER BY kafka_partition
"""
_LATE: Final = """
SELECT extract(epoch FROM now() - min(applied_until))::int8 FROM ingest_offset
 WHERE topic = $1 AND moved_to IS NULL
"""
# One line a rollup: its oldest failure, and the days that it concerns.
_FAILING: Final = """
SELECT rollup, min(failed_at) AS since, min(day) AS first, max(day) + INTERVAL '1 day' AS until,
       count(*) AS days, (array_agg(error ORDER BY failed_at))[1] AS error
  FROM refresh_day WHERE failed_at IS NOT NULL GROUP BY rollup ORDER BY rollup
"""
# Days below the watermark are missing in answers; the others are only slower to answer.
_QUEUED: Final = """
SELECT count(*) FILTER (WHERE day < watermark) AS late,
       count(*) FILTER (WHERE day >= watermark IS NOT FALSE) AS unfilled
  FROM refresh_day JOIN refresh_state USING (rollup)
"""
# Batches that no rollup has taken in, by how long ago the first of them was committed.
_UNREFRESHED: Final = """
SELECT extract(epoch FROM now() - min(committed_at))::int8
  FROM ingest_batch
 WHERE committed_at > coalesce((SELECT min(refreshed_at) FROM refresh_state
                                 WHERE rollup NOT IN (SELECT rollup FROM refresh_day
                                                       WHERE failed_at IS NOT NULL)),
                               '-infinity')
"""
_JOBS: Final = """
SELECT job_id, proc_name || coalesce(' on ' || hypertable_name, '') AS job,
       last_run_status = 'Failed' AS failed,
       (SELECT err_message FROM timescaledb_information.job_errors AS error
         WHERE error.job_id = stats.job_id ORDER BY start_time DESC LIMIT 1) AS message
  FROM timescaledb_information.job_stats AS stats
  JOIN timescaledb_information.jobs AS jobs USING (job_id, hypertable_schema, hypertable_name)
 WHERE last_run_status = 'Failed' OR scheduled AND stats.next_start < now() - INTERVAL '1 hour'
 ORDER BY job_id
"""
_REJECTS: Final = """
SELECT reason, count(*) AS count, min(logged_at)::date AS first,
       max(logged_at)::date + 1 AS until
  FROM rejected_event
 WHERE reason IN ('transform_gap', 'wrong_partition') AND logged_at > now() - INTERVAL '7 days'
 GROUP BY reason
"""


async def examine_shard(number: int, dsn: str, topic: str) -> list[Finding]:
    """Everything that is to be said of one shard."""
    name = f"shard {number}"
    try:
        pool = await open_pool(dsn, READER_SETTINGS, size=1, command_timeout=10)
    except ValueError as error:
        cause = f"its DSN in FOOTFALL_SHARDS cannot be read: {error}"
        return [Finding(name, ok=False, cause=cause)]
    try:
        return await _examined(name, number, pool, topic)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        return [Finding(name, ok=False, cause=f"{error}", command="footfall migrate")]
    except ValueError as error:
        cause = f"its DSN in FOOTFALL_SHARDS cannot be read: {error}"
        return [Finding(name, ok=False, cause=cause)]
    except TROUBLES as error:
        return [Finding(name, ok=False, cause=f"does not answer: {error or repr(error)}")]
    finally:
        pool.terminate()


async def _examined(name: str, number: int, pool: asyncpg.Pool, topic: str) -> list[Finding]:
    row = await pool.fetchrow(_VERSIONS)
    assert row is not None  # noqa: S101 - no table is asked
    version = _version(name, row)
    if not version.ok:
        return [version]
    schema = await _schema(name, number, pool)
    if schema is not None:
        return [schema]
    findings = [version]
    findings += [
        Finding(f"partition {row['kafka_partition']}", ok=False, cause=row["halted_reason"],
                command="docs/runbooks/FootfallPartitionHalted.md")
        for row in await pool.fetch(_HALTED, topic)
    ]  # fmt: skip
    findings += _jobs(name, await pool.fetch(_JOBS))
    findings += [_rejects(name, row) for row in await pool.fetch(_REJECTS)]
    findings += [_failing(row) for row in await pool.fetch(_FAILING)]
    findings += _rollups(name, await pool.fetchrow(_QUEUED), await pool.fetchval(_UNREFRESHED))
    late = await pool.fetchval(_LATE, topic)
    if late is not None:
        findings.append(_freshness(name, late))
    return findings


def _version(name: str, row: asyncpg.Record) -> Finding:
    timescale, postgres = row["timescale"], row["postgres"]
    if timescale is None:
        return Finding(name, ok=False, cause="no TimescaleDB in it", command="footfall migrate")
    told = f"TimescaleDB {timescale} on PostgreSQL {postgres}"
    if "emcc" in row["whole"]:
        return Finding(name, ok=True, cause=f"{told}, embedded: for trying things out")
    found = tuple(int(part) for part in timescale.split("-")[0].split(".")[:3])
    if found < OLDEST_TIMESCALE or postgres < OLDEST_POSTGRES:
        oldest = ".".join(map(str, OLDEST_TIMESCALE))
        return Finding(
            name,
            ok=False,
            cause=f"{told} is too old: TimescaleDB {oldest} on PostgreSQL {OLDEST_POSTGRES} is "
            "the oldest that is tested",
            command="ALTER EXTENSION timescaledb UPDATE, with the new packages installed",
        )
    return Finding(name, ok=True, cause=told)


async def _schema(name: str, number: int, pool: asyncpg.Pool) -> Finding | None:
    for history in ("catalogue", "shard") if number == 0 else ("shard",):
        newest = newest_revision(history)
        there = await pool.fetchval(f"SELECT version_num FROM alembic_version_{history}")  # noqa: S608 - our own names
        if there is None or there < newest:
            cause = f"its {history} schema is at {there}, this version needs {newest}"
            return Finding(name, ok=False, cause=cause, command="footfall migrate")
        if there > newest:
            cause = f"its {history} schema is at {there}, this version knows {newest}"
            return Finding(
                name, ok=False, cause=cause, command="install the version that made the schema"
            )
    return None


def _jobs(name: str, rows: list[asyncpg.Record]) -> list[Finding]:
    failed = [row for row in rows if row["failed"]]
    overdue = [row for row in rows if not row["failed"]]
    found = [
        Finding(
            f"{name} job {row['job_id']}",
            ok=False,
            cause=f"{row['job']} failed: {row['message'] or 'no message'}",
            command=f"CALL run_job({row['job_id']}), docs/runbooks/FootfallPolicyFailing.md",
        )
        for row in failed
    ]
    if overdue:
        cause = f"{len(overdue)} jobs are overdue by more than an hour: is the scheduler running?"
        command = "SELECT timescaledb_pre_restore(), timescaledb_post_restore() after a restore; "
        command += "else raise timescaledb.max_background_workers"
        found.append(Finding(f"{name} jobs", ok=False, cause=cause, command=command))
    return found


def _rejects(name: str, row: asyncpg.Record) -> Finding:
    part = f"{name} {row['reason']}"
    if row["reason"] == "transform_gap":
        cause = (
            f"{row['count']} events of the last 7 days were refused by mistake: replay them once a "
            "version that takes them runs"
        )
        command = f"footfall reprocess run --from {row['first']} --to {row['until']}"
    else:
        cause = (
            f"{row['count']} events of the last 7 days came in another merchant's partition: their "
            "producer must use the partitioner murmur2_random"
        )
        command = "docs/runbooks/FootfallRejectRate.md"
    return Finding(part, ok=False, cause=cause, command=command)


def _rollups(name: str, queued: Any, unrefreshed: int | None) -> list[Finding]:
    found = []
    if queued is not None and (queued["late"] or queued["unfilled"]):
        cause = (
            f"{queued['late']} days of late events wait for a refresh; {queued['unfilled']} days "
            "are answered from raw rows until they are filled"
        )
        found.append(Finding(f"{name} rollups", ok=True, cause=cause))
    if unrefreshed is not None and unrefreshed > LATE_S:
        cause = f"batches of {unrefreshed} s ago are in no rollup yet: no ingester refreshes them"
        part = f"{name} refresh"
        found.append(Finding(part, ok=False, cause=cause, command="footfall ingest"))
    return found


def _freshness(name: str, late: int) -> Finding:
    part = f"{name} freshness"
    if late < LATE_S:
        return Finding(part, ok=True, cause=f"{late} s behind")
    cause = f"{late} s behind: does an ingester run, and can it reach the log?"
    return Finding(part, ok=False, cause=cause, command="footfall ingest")


def _failing(row: asyncpg.Record) -> Finding:
    """A rollup that cannot take in the late events of some days."""
    first, until = row["first"], row["until"]
    return Finding(
        f"rollup {row['rollup']}",
        ok=False,
        cause=f"{row['days']} days from {first:%Y-%m-%d} on cannot be refreshed since "
        f"{row['since']:%Y-%m-%d %H:%M} UTC: {row['error']}. It is retried by itself; "
        "docs/runbooks/FootfallRollupFailing.md says how to find the cause",
        command=f"footfall reprocess refresh --from {first:%Y-%m-%d} --to {until:%Y-%m-%d}",
    )
