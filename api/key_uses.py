"""When keys were last used: gathered in memory, written to the catalogue off the request path."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import asyncpg

from db import catalogue
from db.catalogue import Key

WRITE_EVERY_S: Final = 30.0
_MOST: Final = 10_000  # keys between two writes; beyond that some uses are not noted


@dataclass(slots=True)
class KeyUses:
    """Last uses that are not written yet, by key id."""

    pool: asyncpg.Pool
    every_s: float = WRITE_EVERY_S
    _used: dict[int, datetime] = field(default_factory=dict)

    def note(self, key: Key) -> None:
        """This key was used now."""
        if len(self._used) < _MOST or key.key_id in self._used:
            self._used[key.key_id] = datetime.now(UTC)

    async def write_regularly(self) -> None:
        """Write what was gathered, for ever; a failed write is tried again with the next."""
        while True:
            await asyncio.sleep(self.every_s)
            used, self._used = self._used, {}
            if used:
                try:
                    await catalogue.note_use(self.pool, used)
                except BaseException:
                    self._used = used | self._used
                    raise
