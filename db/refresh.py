"""Refreshing what late events changed: hourly rollups, then daily, one coordinator a shard.

Real-time aggregation shows what lies beyond a rollup's watermark; an event that arrives behind it
shows only after a refresh. The ledger tells which batches did, so that a pass costs next to nothing
when none did, and so that the API can say how fresh its numbers are.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from db.pools import Connection
from db.rollups import ROLLUPS, Rollup
from db.windows import Window, floor_to, merged

_COORDINATOR: Final = 0x466F6F74  # advisory lock key: saves work, guards nothing

PATIENCE_S: Final = 600
_PATIENT: Final = f"SET statement_timeout = '{PATIENCE_S}s'"

# A ledger line bears its transaction's start: one that is still open now belongs to the next pass.
_BEGAN: Final = """
SELECT least(now(), min(xact_start)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Ranges of the raw chunks that hold any of a range of event time.
_HELD: Final = """
SELECT range_start, range_end FROM timescaledb_information.chunks
 WHERE hypertable_name = 'events' AND hypertable_schema = current_schema()
   AND range_end > $1 AND range_start <= $2 ORDER BY range_start
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
            return await take_in(connection)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _COORDINATOR)


async def take_in(connection: Connection) -> int:
    """Refresh whatever arrived since the last pass, by the one who coordinates.

    It comes before any other refresh too: one of a later window would move a rollup's watermark
    past rows that were not yet taken in, and hide them.
    """
    began: datetime = await connection.fetchval(_BEGAN)
    last: datetime = await connection.fetchval("SELECT min(refreshed_at) FROM refresh_state")
    dirty = await connection.fetchrow(_DIRTY, last)
    held: list[Window] = []
    if dirty is not None and dirty["low"] is not None:
        held = await held_windows(connection, dirty["low"], dirty["high"])
    refreshed = 0
    for rollup in ROLLUPS:
        if dirty is not None and held:
            changed = windows(rollup.bucket, (dirty["low"], dirty["high"]), held, began)
            for start, end in changed:
                await refresh(connection, rollup, start, end)
            refreshed += bool(changed)
        await connection.execute(
            "UPDATE refresh_state SET refreshed_at = $2 WHERE rollup = $1",
            rollup.name,
            began,
        )
    return refreshed


def windows(
    bucket: timedelta, dirty: Window, held: Sequence[Window], now: datetime
) -> list[Window]:
    """Whole closed buckets that hold late events, as few windows as may be.

    Args:
        bucket: the rollup's.
        dirty: the first and last event time of the batches that came since the last pass.
        held: the time ranges of the raw chunks there are, in order. Where raw rows were dropped
            a refresh would erase the rollup's, so none reaches there.
        now: the bucket that holds it is still open.
    """
    first, last = floor_to(bucket, dirty[0]), floor_to(bucket, dirty[1]) + bucket
    last = min(last, floor_to(bucket, now))
    cut = [(max(first, start), min(last, end)) for start, end in held]
    return merged((start, end) for start, end in cut if start < end)


async def refresh(
    connection: Connection,
    rollup: Rollup,
    start: datetime,
    end: datetime,
    *,
    force: bool = False,
) -> None:
    """Refresh one rollup over [start, end); no transaction may be open.

    With `force` every bucket is made again, whether a change of it was noted or not. A bucket in
    the columnstore is unpacked, every merchant's: the session may take longer from here on.
    """
    await connection.execute(_PATIENT)
    await connection.execute(
        "CALL refresh_continuous_aggregate($1::text::regclass, $2::timestamptz, $3::timestamptz, "
        "force => $4::bool)",
        rollup.name,
        start,
        end,
        force,
        timeout=PATIENCE_S,
    )


@asynccontextmanager
async def coordinating(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A connection that alone refreshes this shard's rollups, as soon as no other does."""
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _COORDINATOR)
        try:
            yield connection
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _COORDINATOR)


async def held_windows(connection: Connection, start: datetime, end: datetime) -> list[Window]:
    """Ranges of the raw chunks that hold any of [start, end]."""
    rows = await connection.fetch(_HELD, start, end)
    return [(row["range_start"], row["range_end"]) for row in rows]
