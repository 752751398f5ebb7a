"""Where each partition is written: the catalogue's map, followed while partitions move.

A shard that a partition has left says so in its offset row. Between that and the new map the
partition is nowhere: what is read of it meanwhile is dropped, and read again from where the new
shard stands. The fence alone keeps every event from being lost or counted twice; the map only
spares us from knocking at the wrong door.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg
import numpy as np
import numpy.typing as npt
import structlog

from db import ledger
from db.errors import TROUBLES, kind_of
from db.ledger import Held
from db.shard_map import shard_map

log = structlog.get_logger(__name__)

NOWHERE: Final = -1


class Placement:
    """Partition to shard, for those who write."""

    def __init__(self, pools: Sequence[asyncpg.Pool], topic: str) -> None:
        self._pools = pools
        self._topic = topic
        self._map: dict[int, int] = {}
        self._between: set[int] = set()
        self._shards = np.empty(0, np.int64)

    async def read(self) -> set[int]:
        """Read the map again; the partitions that are to be taken up anew by `held`.

        They are nowhere until then. Whether their shard answers is found out here, so that whoever
        takes them up need not wait for one that does not.
        """
        found = await shard_map(self._pools[0])
        changed = {p for p, shard in self._map.items() if found.get(p, shard) != shard}
        self._map = found
        self._set_aside(changed)
        answering = [
            {p for p in self._between if self._map.get(p) == shard}
            for shard, pool in enumerate(self._pools)
            if any(self._map.get(p) == shard for p in self._between) and await _answers(pool)
        ]
        return set().union(*answering)

    async def held(self, topic_id: str, low: dict[int, int]) -> list[Held]:
        """Where each partition stands, in the shard that it lives in; see `db.ledger`.

        Those that are on their way between two shards have `moved_to` set and stay nowhere, as do
        those whose shard is away: of these nothing is said.
        """
        self._set_aside(low)
        found = await self._ask(topic_id, low)
        left = {each.partition for each in found if each.moved_to is not None}
        if left:
            await self.read()
            again = await self._ask(topic_id, {p: low[p] for p in left})
            found = [each for each in found if each.partition not in left] + again
        self._between -= {each.partition for each in found if each.moved_to is None}
        self._lay_out()
        return found

    @property
    def partitions(self) -> int:
        """How many the map has."""
        return len(self._map)

    def shards_of(self, partitions: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """The shard of each message's partition, or NOWHERE."""
        known = partitions < len(self._shards)
        return np.where(known, self._shards[np.where(known, partitions, 0)], NOWHERE)

    def here(self, partitions: Iterable[int], shard: int) -> set[int]:
        """Those that are written to a shard now."""
        return {p for p in partitions if self._map.get(p) == shard and p not in self._between}

    def pool_of(self, partition: int) -> asyncpg.Pool:
        """The shard's that the map names."""
        return self._pools[self._map[partition]]

    def _set_aside(self, partitions: Iterable[int]) -> None:
        self._between |= set(partitions)
        self._lay_out()

    def _lay_out(self) -> None:
        self._shards = np.full(max(self._map, default=-1) + 1, NOWHERE)
        settled = {p: shard for p, shard in self._map.items() if p not in self._between}
        self._shards[list(settled)] = list(settled.values())

    async def _ask(self, topic_id: str, low: dict[int, int]) -> list[Held]:
        held: list[Held] = []
        for shard, pool in enumerate(self._pools):
            here = {p: first for p, first in low.items() if self._map.get(p) == shard}
            if not here:
                continue
            try:
                held += await ledger.held_offsets(pool, self._topic, topic_id, here)
            except TROUBLES as error:
                if kind_of(error) != "transient":
                    raise
                log.warning("shard_away", shard=shard, partitions=sorted(here), error=repr(error))
        for partition in low:
            shard = self._map.get(partition, NOWHERE)
            if shard == NOWHERE:
                log.error("partition_unmapped", partition=partition, advice=_MIGRATE)
            if shard >= len(self._pools):
                log.error("shard_unknown", partition=partition, shard=shard, advice=_APPEND)
        return held


async def _answers(pool: asyncpg.Pool) -> bool:
    try:
        await pool.fetchval("SELECT 1", timeout=5)
    except TROUBLES as error:
        if kind_of(error) != "transient":
            raise
        return False
    return True


_MIGRATE: Final = "the topic has a partition that no shard is mapped to: run `footfall migrate`"
_APPEND: Final = "FOOTFALL_SHARDS names fewer shards: append the new one and start again"
