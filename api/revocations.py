"""Keys that were revoked or rotated elsewhere leave this worker's cache within two seconds.

A cached key is asked for again after five seconds anyway. But a look-up that fails, because the
catalogue is slow or its few connections are busy, lets the cached key live on; this poll, on a
connection of its own, does not let a revoked one live with it.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import asyncpg

from api.memory import Memory
from db import catalogue
from db.catalogue import Key

POLL_S: Final = 2.0


@dataclass(slots=True)
class Revocations:
    """The audit trail of keys, followed."""

    pool: asyncpg.Pool
    keys: Memory[bytes, Key | None]

    async def follow(self) -> None:
        """Poll until cancelled.

        Raises:
            asyncpg.PostgresError, OSError, TimeoutError: the catalogue does not answer.
        """
        last = 0
        while True:
            last, changed = await catalogue.changed_keys(self.pool, last)
            for key_hash in changed:
                self.keys.forget(key_hash)
            await asyncio.sleep(POLL_S)
