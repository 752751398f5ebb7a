"""Whether this worker can do its work, found out in the background so that asking costs nothing."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from db.pools import READER_SETTINGS, open_pool

CHECK_EVERY_S: Final = 1.0
ANSWER_S: Final = 3.0
STALE_S: Final = 15.0  # without a check for so long nothing is known


@dataclass(slots=True)
class Readiness:
    """Which shards answer, over a connection to each that no question can take."""

    pools: Sequence[asyncpg.Pool]
    _shards: dict[str, str] = field(default_factory=dict)
    _checked_at: float = 0.0

    @classmethod
    async def open(cls, shards: Sequence[str]) -> "Readiness":
        """Make the pools; the databases need not be there yet."""
        settings = {**READER_SETTINGS, "application_name": "footfall-readiness"}
        found = cls([await open_pool(dsn, settings, size=1) for dsn in shards])
        await found.check()
        return found

    async def check_regularly(self) -> None:
        """Check until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY_S)

    async def check(self) -> None:
        """Ask every shard once."""
        answers = await asyncio.gather(
            *(asyncio.wait_for(pool.fetchval("SELECT 1"), ANSWER_S) for pool in self.pools),
            return_exceptions=True,
        )
        self._shards = {str(n): "ok" if got == 1 else "away" for n, got in enumerate(answers)}
        self._checked_at = time.monotonic()

    @property
    def shards(self) -> dict[str, str]:
        """By number: "ok", "away", or "unknown" where the last check is too long ago."""
        if time.monotonic() - self._checked_at > STALE_S:
            return dict.fromkeys(self._shards, "unknown")
        return self._shards

    def close(self) -> None:
        """Close the connections."""
        for pool in self.pools:
            pool.terminate()
