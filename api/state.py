"""What the running API holds: pools, the shard map, the publisher. Opened once, closed once."""

from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import asyncpg
import maxminddb

from api.counters import Counters
from api.downloads import Downloads
from api.in_flight import InFlight
from api.key_uses import KeyUses
from api.memory import Memory
from api.problems import problem
from api.publish import Publisher
from api.query.changes import Changes, Stand
from api.query.place import Place
from api.query.remember import Answers
from api.query.shelf import Shelf
from api.readiness import Readiness
from api.revocations import Revocations
from api.settings import ApiSettings
from background.supervisor import Supervisor
from db import catalogue
from db.catalogue import Key, Merchant
from db.moves import lives_in
from db.pools import READER_SETTINGS, SCAN_SETTINGS, WRITER_SETTINGS, open_pool, open_pools
from db.shard_map import shard_map
from events.check import MAX_MERCHANT_ID
from events.partitions import partition_of

MERCHANT_S: Final = 60.0  # a shop's zone and currency are chosen once


@dataclass(slots=True)
class State:
    """Open connections, short-lived memories of the catalogue, and kept answers."""

    settings: ApiSettings
    supervisor: Supervisor
    publisher: Publisher
    bodies: InFlight
    downloads: Downloads
    counters: Counters
    readiness: Readiness
    watch: asyncpg.Pool  # of the catalogue, for what must not wait behind key look-ups
    catalogue: asyncpg.Pool
    readers: list[asyncpg.Pool]
    scanners: list[asyncpg.Pool]
    changes: list[Changes]
    answers: Answers
    keys: Memory[bytes, Key | None]
    key_uses: KeyUses
    merchants: Memory[int, Merchant | None]
    countries: maxminddb.Reader | None
    _map: Memory[None, dict[int, int]]

    @classmethod
    async def open(cls, settings: ApiSettings, counters: Counters) -> Self:
        """Open pools (the databases need not be there yet) and the producer."""
        known = await open_pool(
            settings.shards[0],
            {**WRITER_SETTINGS, "application_name": "footfall-catalogue"},
            size=2,
        )
        where, size = settings.read_shards or settings.shards, settings.pool_size
        readers = await open_pools(where, READER_SETTINGS, size=size)
        scanners = await open_pools(where, SCAN_SETTINGS, size=size)
        changes = [Changes(pool, settings.topic) for pool in readers]
        countries, shared = settings.country_file, settings.shared_dir
        supervisor = Supervisor()
        if settings.cache_seconds:
            for shard, each in enumerate(changes):
                supervisor.start(f"watermarks_{shard}", each.watch)
        publisher = Publisher(
            settings.bootstrap,
            settings.topic,
            settings.kafka_options,
            settings.spool_dir,
            supervisor,
        )
        key_uses = KeyUses(known)
        supervisor.start("key_uses", key_uses.write_regularly)
        watch = await open_pool(
            settings.shards[0],
            {**READER_SETTINGS, "application_name": "footfall-key-watch"},
            size=1,
        )
        keys: Memory[bytes, Key | None] = Memory(partial(catalogue.find_key, known))
        supervisor.start("revocations", Revocations(watch, keys).follow)
        readiness = await Readiness.open(where)
        supervisor.start("readiness", readiness.check_regularly)
        return cls(
            settings,
            supervisor,
            publisher,
            InFlight(),
            Downloads(),
            counters,
            readiness,
            watch,
            known,
            readers,
            scanners,
            changes,
            Answers(settings.cache_seconds, Shelf(shared / "answers") if shared else None),
            keys,
            key_uses,
            Memory(partial(catalogue.find_merchant, known), MERCHANT_S),
            maxminddb.open_database(countries) if countries else None,
            Memory(lambda _: shard_map(known)),
        )

    async def close(self) -> None:
        """Flush the producer, close the pools."""
        await self.supervisor.close()
        await self.publisher.close()
        if self.answers.shelf is not None:
            self.answers.shelf.close()
        if self.countries is not None:
            self.countries.close()
        self.readiness.close()
        for pool in (self.catalogue, self.watch, *self.readers, *self.scanners):
            pool.terminate()

    async def merchant(self, merchant_id: int) -> Merchant:
        """The shop, as it was at most a minute ago.

        Raises:
            ProblemDetailsException: 404, there is none.
        """
        if not 1 <= merchant_id <= MAX_MERCHANT_ID:
            raise no_such_merchant()
        found = await self.merchants.get(merchant_id)
        if found is None:
            raise no_such_merchant()
        return found

    async def place(self, merchant_id: int) -> Place:
        """Where a merchant's rows live, as it was at most five seconds ago; a shard that the
        partition has left knows better (`api.query.place`)."""
        shards = await self._map.get(None)
        if not shards:
            raise problem(
                503,
                "not_migrated",
                "The shard map is empty: run `footfall migrate`.",
                headers={"Retry-After": "5"},
            )
        partition = partition_of(merchant_id, len(shards))
        shard = shards[partition]
        if shard >= len(self.readers):
            raise problem(
                503,
                "shard_unknown",
                f"This server has not been told of shard {shard}: append it to FOOTFALL_SHARDS.",
                headers={"Retry-After": "5"},
            )

        async def is_right(left: bool) -> bool:
            if await lives_in(self.catalogue, partition, shard, marked=left):
                return True
            await self._map.renew(None)
            return False

        pools = (self.readers[shard], self.scanners[shard])
        return Place(*pools, partition, self.settings.topic, shard, is_right)

    def shard_of(self, merchant_id: int) -> int | None:
        """The shard that holds a merchant, where that is known without asking."""
        shards = self._map.held(None)
        return shards[partition_of(merchant_id, len(shards))] if shards else None

    def stand(self, place: Place, merchant_id: int) -> Stand | None:
        """What is known, without asking, of a merchant's rows."""
        return self.changes[place.shard].stand(place.partition, merchant_id)


def no_such_merchant() -> Exception:
    """A shop that is not there, or is not the asker's: the two look alike."""
    return problem(404, "not_found", "There is no such merchant, or the key is not for it.")
