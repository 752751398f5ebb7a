"""Refreshing what late events changed: hourly rollups, then daily, one coordinator a shard.

Real-time aggregation shows what lies beyond a rollup's watermark; an event that arrives behind it
shows only after a refresh. The ledger tells which batches did, so that a pass costs next to nothing
when none did, and so that the API can say how fresh its numbers are.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from db.policies import REFRESH_START_DAYS
from db.pools import Connection
from db.rollups import ROLLUPS, Rollup

_COORDINATOR: Final = 0x466F6F74  # advisory lock key: saves work, guards nothing

# A ledger line bears its transaction's start: one that is still open now belongs to the next pass.
_BEGAN: Final = """
SELECT least(now(), min(xact_start)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

_DIRTY: Final = """
SELECT min(min_ts) AS low, max(max_ts) AS high FROM ingest_batch WHERE committed_at >= $1
"""


async def refresh_late(pool: asyncpg.Pool) -> int:
    """One pass over a shard; the number of rollups refreshed, 0 where another coordinates."""
    async with pool.acquire() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _COORDINATOR):
            return 0
        try:
            return await _pass(connection)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _COORDINATOR)


async def _pass(connection: Connection) -> int:
    began: datetime = await connection.fetchval(_BEGAN)
    last: datetime | None = await connection.fetchval("SELECT min(refreshed_at) FROM refresh_state")
    dirty = await connection.fetchrow(_DIRTY, last or datetime(2000, 1, 1, tzinfo=UTC))
    refreshed = 0
    for rollup in ROLLUPS:
        window = _window(rollup, dirty["low"], began) if dirty else None
        if window is not None:
            await refresh(connection, rollup, *window)
            refreshed += 1
        await connection.execute(
            "INSERT INTO refresh_state VALUES ($1, $2) "
            "ON CONFLICT (rollup) DO UPDATE SET refreshed_at = excluded.refreshed_at",
            rollup.name,
            began,
        )
    return refreshed


def _window(
    rollup: Rollup, low: datetime | None, now: datetime
) -> tuple[datetime, datetime] | None:
    """Whole buckets from the oldest late event to the last closed bucket, if there are any."""
    if low is None:
        return None
    edge = now - timedelta(days=REFRESH_START_DAYS)
    start = floor_to(rollup.bucket, max(low, edge))
    end = floor_to(rollup.bucket, now)
    return (start, end) if start < end else None


def floor_to(bucket: timedelta, moment: datetime) -> datetime:
    """The start of the bucket that holds `moment`, counted from the epoch, as time_bucket does."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - epoch) % bucket


async def refresh(connection: Connection, rollup: Rollup, start: datetime, end: datetime) -> None:
    """Refresh one rollup over [start, end); no transaction may be open."""
    await connection.execute(
        "CALL refresh_continuous_aggregate($1::text::regclass, $2::timestamptz, $3::timestamptz)",
        rollup.name,
        start,
        end,
        timeout=600,
    )
