"""How fast a replay may go: at a rate that is set, and standing back while live is behind."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import asyncpg

_LIVE: Final = "SELECT min(applied_until) FROM ingest_offset WHERE topic = $1 AND moved_to IS NULL"
LOOK_EVERY_S: Final = 1.0


class Pace:
    """Messages a second over all readers of a run; no limit without a rate."""

    def __init__(
        self, messages_per_s: float | None = None, tell: Callable[[int], None] = lambda _: None
    ) -> None:
        self._rate = messages_per_s
        self._tell = tell
        self._free_at = 0.0

    async def take(self, messages: int) -> None:
        """So many were read: wait until more may be."""
        self._tell(messages)
        if not self._rate:
            return
        now = time.monotonic()
        start = max(now, self._free_at)
        self._free_at = start + messages / self._rate
        await asyncio.sleep(self._free_at - now)


async def stand_back(pool: asyncpg.Pool, topic: str, max_lag_s: float) -> float:
    """Wait while live ingest is behind by more than this and still catching up; seconds waited.

    An ingester that does not run is not waited for: nothing would come of it.
    """
    began = time.monotonic()
    before: datetime | None = await pool.fetchval(_LIVE, topic)
    while before is not None and (datetime.now(UTC) - before).total_seconds() > max_lag_s:
        await asyncio.sleep(LOOK_EVERY_S)
        now: datetime | None = await pool.fetchval(_LIVE, topic)
        if now == before:
            break
        before = now
    return time.monotonic() - began
