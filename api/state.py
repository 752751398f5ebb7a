"""What the running API holds: pools, the shard map, the publisher. Opened once, closed once."""

import time
from dataclasses import dataclass, field
from typing import Final, Self

import asyncpg

from api.problems import problem
from api.publish import Publisher
from api.query.answer import Place
from api.settings import ApiSettings
from db import catalogue
from db.catalogue import Key, Merchant
from db.placement import partition_of
from db.pools import READER_SETTINGS, WRITER_SETTINGS, open_pool, open_pools, shard_map
from events.check import MAX_MERCHANT_ID

REMEMBER_S: Final = 5.0  # how long a key, a merchant or the map may be out of date
_MOST: Final = 100_000


@dataclass(slots=True)
class State:
    """Open connections and short-lived memories of the catalogue."""

    settings: ApiSettings
    publisher: Publisher
    catalogue: asyncpg.Pool
    readers: list[asyncpg.Pool]
    _keys: dict[str, tuple[float, Key | None]] = field(default_factory=dict)
    _merchants: dict[int, tuple[float, Merchant | None]] = field(default_factory=dict)
    _map: tuple[float, dict[int, int]] = (-1e9, {})

    @classmethod
    async def open(cls, settings: ApiSettings) -> Self:
        """Open pools (the databases need not be there yet) and the producer."""
        return cls(
            settings,
            Publisher(
                settings.bootstrap, settings.topic, settings.kafka_options, settings.spool_dir
            ),
            await open_pool(
                settings.shards[0],
                {**WRITER_SETTINGS, "application_name": "footfall-catalogue"},
                size=2,
            ),
            await open_pools(settings.shards, READER_SETTINGS, size=settings.pool_size),
        )

    async def close(self) -> None:
        """Flush the producer, close the pools."""
        await self.publisher.close()
        for pool in (self.catalogue, *self.readers):
            pool.terminate()

    async def key(self, text: str) -> Key | None:
        """The key, as it was at most five seconds ago."""
        held = self._keys.get(text)
        if held is None or time.monotonic() - held[0] > REMEMBER_S:
            if len(self._keys) > _MOST:
                self._keys.clear()
            held = self._keys[text] = (
                time.monotonic(),
                await catalogue.find_key(self.catalogue, text),
            )
        return held[1]

    async def merchant(self, merchant_id: int) -> Merchant:
        """The shop, as it was at most five seconds ago.

        Raises:
            ProblemDetailsException: 404, there is none.
        """
        if not 1 <= merchant_id <= MAX_MERCHANT_ID:
            raise no_such_merchant()
        held = self._merchants.get(merchant_id)
        if held is None or time.monotonic() - held[0] > REMEMBER_S:
            if len(self._merchants) > _MOST:
                self._merchants.clear()
            held = self._merchants[merchant_id] = (
                time.monotonic(),
                await catalogue.find_merchant(self.catalogue, merchant_id),
            )
        if held[1] is None:
            raise no_such_merchant()
        return held[1]

    async def place(self, merchant_id: int) -> Place:
        """Where a merchant's rows live."""
        if time.monotonic() - self._map[0] > REMEMBER_S:
            self._map = (time.monotonic(), await shard_map(self.catalogue))
        shards = self._map[1]
        if not shards:
            raise problem(
                503,
                "not_migrated",
                "The shard map is empty: run `footfall migrate`.",
                headers={"Retry-After": "5"},
            )
        partition = partition_of(merchant_id, len(shards))
        return Place(self.readers[shards[partition]], partition, self.settings.topic)


def no_such_merchant() -> Exception:
    """A shop that is not there, or is not the asker's: the two look alike."""
    return problem(404, "not_found", "There is no such merchant, or the key is not for it.")
