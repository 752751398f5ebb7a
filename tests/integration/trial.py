"""A transaction on a shard that leaves nothing behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from db.pools import Connection, open_pool


@asynccontextmanager
async def trial(shard: str, settings: dict[str, str]) -> AsyncIterator[Connection]:
    """A connection within a transaction that is rolled back at the end."""
    pool = await open_pool(shard, settings, size=1)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()
    await pool.close()
