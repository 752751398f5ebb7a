"""Refreshing what late events changed: one coordinator a shard, each rollup by itself.

Real-time aggregation shows what lies beyond a rollup's watermark; an event that arrives behind it
shows only after a refresh. The ledger tells which batches did. Their days are queued
(`db.refresh_queue`) and a pass takes the recent ones first. A day that fails is retried later,
alone; it delays nothing but the same day of the rollups that read it.
"""

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from db import refresh_queue
from db.pools import Connection, borrowed
from db.refresh_queue import Queue, closed_within, held_windows
from db.rollups import DAY, Rollup

log = structlog.get_logger(__name__)

_COORDINATOR: Final = 0x466F6F74  # advisory lock key: saves work, guards nothing

PATIENCE_S: Final = 600
_PATIENT: Final = f"SET statement_timeout = '{PATIENCE_S}s'"

# Recent days are always taken; after so long with older ones a pass ends, so that the next begins
# with what is recent by then.
PASS_S: Final = 5.0
# Neighbouring days are refreshed by one call, as many as take about so long.
_QUICK_S, _SLOW_S = 0.2, 1.0

# A ledger line bears its transaction's start: one that is still open now belongs to the next pass.
_BEGAN: Final = """
SELECT least(now(), min(xact_start)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

# Another session (a policy) is refreshing the same buckets, or unpacks a chunk.
_CONTENDED: Final = frozenset({"55P03", "40001", "40P01"})
TIMED_OUT: Final = "57014"
# The server goes away or is no primary any more: no day is at fault.
_AWAY: Final = frozenset({"08", "25", "57"})


async def refresh_late(pool: asyncpg.Pool, budget_s: float = PASS_S) -> int:
    """One pass over a shard; the number of refreshes, 0 where another coordinates.

    Args:
        budget_s: for how long days before yesterday are taken; what is left stays queued.

    Raises:
        db.errors.TROUBLES: the shard does not answer, or
            another session was refreshing some of the same days. Those stay queued.
    """
    async with borrowed(pool) as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _COORDINATOR):
            return 0
        refreshed = await take_in(connection, budget_s, patient=True)
        # An error ends the session, and with it the lock.
        await connection.execute("SELECT pg_advisory_unlock($1)", _COORDINATOR)
        return refreshed


async def take_in(
    connection: Connection, budget_s: float = math.inf, *, patient: bool = False
) -> int:
    """Refresh whatever arrived since the last pass, by the one who coordinates; how many refreshes
    that took.

    It comes before any other refresh too: one of a later window would move a rollup's watermark
    past rows that were not yet taken in, and hide them.

    Args:
        patient: days that failed wait for their time; else they are tried again at once.

    Raises:
        db.errors.TROUBLES: as `refresh_late`.
    """
    await connection.execute(_PATIENT)
    began: datetime = await connection.fetchval(_BEGAN)
    seen = await refresh_queue.watermarks(connection)
    await refresh_queue.note(connection, began, seen)
    queue = await refresh_queue.queued(connection, began, seen, patient=patient)
    count, contended = await _drain(connection, queue, began, budget_s)
    await refresh_queue.settle(connection, queue, began)
    if contended is not None:
        raise contended
    return count


async def _drain(
    connection: Connection, queue: Queue, began: datetime, budget_s: float
) -> tuple[int, asyncpg.PostgresError | None]:
    """How many refreshes it took, and what hindered one, where another session did."""
    count, span = 0, 1
    until: float | None = None
    contended: asyncpg.PostgresError | None = None
    while (found := queue.next_run(span)) is not None:
        rollup, days = found
        started = time.monotonic()
        if days[-1] < queue.recent:
            until = started + budget_s if until is None else until
            if started >= until:
                break
        try:
            count += await _refresh_days(connection, queue, rollup, days, began)
        except asyncpg.PostgresError as error:
            state = error.sqlstate or ""
            if state in _CONTENDED:
                contended = error
                queue.wait(rollup, days)
            elif state[:2] in _AWAY and state != TIMED_OUT:
                raise
            elif len(days) == 1:
                await refresh_queue.note_failed(connection, rollup, days[0], error)
                queue.wait(rollup, days)
                log.error("rollup_fails", rollup=rollup.name, day=days[0], error=repr(error))
            span = 1
            continue
        took = time.monotonic() - started
        span = span * 2 if took < _QUICK_S else max(1, span // 2) if took > _SLOW_S else span
    return count, contended


async def _refresh_days(
    connection: Connection, queue: Queue, rollup: Rollup, days: list[datetime], began: datetime
) -> int:
    """Refresh a run of neighbouring days, and what lies between the watermark and them."""
    start, end = days[0], days[-1] + DAY
    watermark = queue.watermarks[rollup.name]
    if watermark is not None and watermark < start:
        start = watermark
    held = await held_windows(connection, start, end)
    found = closed_within(rollup.bucket, (start, end), held, began)
    for window in found:
        await refresh(connection, rollup, *window)
    await refresh_queue.note_done(connection, rollup, days)
    queue.remove(rollup, days, found[-1][1] if found else None)
    return len(found)


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
        timeout=PATIENCE_S + 30,  # the server's own time-out comes first
    )


@asynccontextmanager
async def coordinating(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A connection that alone refreshes this shard's rollups, as soon as no other does."""
    async with borrowed(pool) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", _COORDINATOR)
        yield connection
        await connection.execute("SELECT pg_advisory_unlock($1)", _COORDINATOR)
