"""Connections to the shards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal, TypeAlias

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy

# A connection, whether it is a pool's or one's own.
Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"
# What can be asked a single question.
Askable: TypeAlias = "asyncpg.Pool | asyncpg.Connection | PoolConnectionProxy"

Isolation = Literal["READ COMMITTED", "REPEATABLE READ"]

ACQUIRE_WITHIN_S: Final = 60.0
RELEASE_WITHIN_S: Final = 5.0
# A stalled client must not hold a transaction, nor a stalled server a client, for ever.
WRITER_SETTINGS: Final = {
    "application_name": "footfall-ingest",
    "timezone": "UTC",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "5s",
}
# A slice is compared and replaced in one transaction: minutes where it is large.
REPLAY_SETTINGS: Final = {
    **WRITER_SETTINGS,
    "application_name": "footfall-reprocess",
    "statement_timeout": "15min",
    "idle_in_transaction_session_timeout": "5min",
    "lock_timeout": "60s",
    "jit": "off",
    # Its slices keep the server busy; more workers would take their time from live ingest.
    "max_parallel_workers_per_gather": "0",
}
# An ingester's commit need not wait for the disk: should the server lose it, the offset goes with
# the rows, and both are read again from the log.
INGEST_SETTINGS: Final = {
    **WRITER_SETTINGS,
    "synchronous_commit": "off",
    # Every day's chunk begins empty: a plan that was made then and kept would look through all of
    # the chunk for each event that may repeat one, until the server has taken stock of it.
    "plan_cache_mode": "force_custom_plan",
}
READER_SETTINGS: Final = {
    "application_name": "footfall-api",
    "timezone": "UTC",
    "statement_timeout": "10s",
    "default_transaction_read_only": "on",
    "jit": "off",
    # The API has few statements of rollups, and to plan one costs more than to run it: once is
    # enough. Left to itself the server judges by the first few that come, and may plan for ever.
    "plan_cache_mode": "force_generic_plan",
}
# Raw rows lie in hundreds of chunks: better to plan each time for the few that hold the range.
SCAN_SETTINGS: Final = {**READER_SETTINGS, "plan_cache_mode": "force_custom_plan"}


async def open_pool(
    dsn: str, settings: dict[str, str], *, size: int, command_timeout: float = 90.0
) -> asyncpg.Pool:
    """A pool that does not need the shard to be there yet.

    What writes goes to the primary of the hosts that the DSN lists, whichever that is now. What
    reads takes what the DSN's own `target_session_attrs` says, by default any of them.
    """
    # What only reads leaves nothing in a session: a reset would double the round trips.
    keeps_clean = settings.get("default_transaction_read_only") == "on"
    where = None if keeps_clean else SessionAttribute.primary
    return await asyncpg.create_pool(
        dsn,
        connect=_connect,
        reset=_nothing_to_reset if keeps_clean else None,
        min_size=0,
        max_size=size,
        target_session_attrs=where,
        server_settings=settings,
        command_timeout=command_timeout,
        timeout=10,
    )


@asynccontextmanager
async def borrowed(pool: asyncpg.Pool) -> AsyncIterator[Connection]:
    """A connection of a pool, discarded after any error: its state is then unknown, and asking the
    server may block without limit.

    Raises:
        TimeoutError: none was free within a minute.
    """
    connection = await pool.acquire(timeout=ACQUIRE_WITHIN_S)
    try:
        yield connection
    except BaseException:
        with suppress(asyncpg.InterfaceError):  # it was lost, and is no longer the pool's
            connection.terminate()
        raise
    finally:
        await pool.release(connection, timeout=RELEASE_WITHIN_S)


@asynccontextmanager
async def transaction(
    pool: asyncpg.Pool, isolation: Isolation = "READ COMMITTED", within_s: float | None = None
) -> AsyncIterator[Connection]:
    """A connection in a transaction, which an error ends with its connection.

    Raises:
        TimeoutError: it did not end within `within_s` seconds.
    """
    async with asyncio.timeout(within_s), borrowed(pool) as connection:
        await connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        yield connection
        await connection.execute("COMMIT")


async def _connect(*words: Any, **how: Any) -> asyncpg.Connection:
    """A connection.

    Raises:
        ConnectionError: hosts answer, and none of them is the primary: one will be before long.
    """
    try:
        return await asyncpg.connect(*words, **how)
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ConnectionError(str(error)) from error


async def _nothing_to_reset(_: Connection) -> None:
    return


async def open_pools(
    dsns: Sequence[str], settings: dict[str, str], *, size: int
) -> list[asyncpg.Pool]:
    """One pool a shard, in the order of the DSNs."""
    return [await open_pool(dsn, settings, size=size) for dsn in dsns]
