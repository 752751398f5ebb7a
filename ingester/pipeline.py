"""The loop: read, gather by shard, process, load. Each shard has a lane of its own.

A lane processes its next batch while the last one is copied. When a shard is away its lane fills,
its partitions are paused, and the others go on.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import asyncpg
import numpy as np
import structlog
from confluent_kafka import KafkaException

from background.supervisor import Supervisor
from db import ledger
from db.errors import TROUBLES, kind_of
from db.installation import visitor_hash_key
from db.pools import INGEST_SETTINGS, open_pools
from db.refresh import refresh_late
from db.shard_map import CHANGED
from events.batch import Messages
from events.enrich import Enrichment
from events.identity import VisitorHash
from ingester import telemetry
from ingester.consume import AssignmentError, Topic, TopicReader
from ingester.lane import Lane
from ingester.load import Loader, Reach
from ingester.placement import Placement
from ingester.progress import HaltedError, check_progress
from ingester.settings import IngestSettings
from ingester.watch import watch_shard

log = structlog.get_logger(__name__)

HEARTBEAT_S: Final = 1.0
TOPIC_CHECK_S: Final = 30.0
MAP_CHECK_S: Final = 0.5
PROGRESS_CHECK_S: Final = 1.0


class Pipeline:
    """Everything an ingester process does, from its start to its orderly end."""

    def __init__(
        self,
        settings: IngestSettings,
        *,
        ready: Callable[[], None] = lambda: None,
        reach: Reach = lambda _: None,
    ) -> None:
        self._settings = settings
        self._say_ready = ready
        self._reach = reach
        self._stopping = asyncio.Event()
        self._topic_checked_at = 0.0
        self.supervisor = Supervisor((HaltedError, AssignmentError, KafkaException))

    def stop(self) -> None:
        """End in order: commit what was read, leave the group."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped.

        Background tasks that fail are started again; what they dropped is read again from the
        offsets that the shards store.

        Raises:
            HaltedError: the topic was re-created.
            AssignmentError, KafkaException: the consumer cannot be trusted; start afresh.
        """
        settings = self._settings
        pools = await open_pools(settings.shards, INGEST_SETTINGS, size=4)
        self._pools = pools
        self._placement = Placement(pools, settings.topic)
        await self._placement.read()
        self._astray: set[int] = set()
        reader = TopicReader(settings, self._placement.held, self._halt)
        try:
            await reader.open()
            self._check_topic_is_kept(reader.topic)
            window = timedelta(seconds=settings.dedupe_window_s)
            visitor_hash = VisitorHash(await visitor_hash_key(pools[0]))
            settings = replace(
                settings, limits=replace(settings.limits, partitions=self._placement.partitions)
            )
            lanes = [
                Lane(
                    number,
                    settings,
                    Loader(pool, reader.topic_id, window, self._reach),
                    Enrichment.open(visitor_hash, settings.country_file),
                )
                for number, pool in enumerate(pools)
            ]
            reader.on_assigned = lambda gained: self._take_up(lanes, gained)
            async with self.supervisor:
                self._start(reader, lanes)
                self._say_ready()
                await self._until_stopped(lanes)
        finally:
            await reader.close()
            for pool in pools:
                pool.terminate()

    def _start(self, reader: TopicReader, lanes: Sequence[Lane]) -> None:
        """Start every background task, each under a name of its own."""
        start = self.supervisor.start
        for lane, pool in zip(lanes, self._pools, strict=True):
            start(f"process_{lane.shard}", lane.process)
            start(f"load_{lane.shard}", lane.load)
            start(f"refresh_{lane.shard}", partial(self._refresh, pool))
            start(f"shard_watch_{lane.shard}", partial(self._watch, lane.shard, pool))
        start("heartbeat", partial(self._heartbeat, reader, lanes))
        start("topic_check", partial(self._watch_topic, reader))
        start("map_check", self._watch_map)
        start("progress", partial(self._watch_progress, reader, lanes))
        start("read", partial(self._read, reader, lanes))

    async def _until_stopped(self, lanes: Sequence[Lane]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        failing = asyncio.create_task(self.supervisor.wait())
        try:
            await asyncio.wait([stopping, failing], return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
            draining = [asyncio.create_task(lane.drain()) for lane in lanes]
            await asyncio.wait(draining, timeout=30)
        finally:
            for task in (stopping, failing):
                task.cancel()
            await asyncio.gather(stopping, failing, return_exceptions=True)

    async def _read(self, reader: TopicReader, lanes: Sequence[Lane]) -> None:
        # What an error dropped between the consumer and a lane is read again.
        self._astray |= reader.partitions
        while not self._stopping.is_set():
            messages = await reader.read()
            self._reach("after_consume")
            if len(messages):
                self._gather(messages, lanes)
            await self._take_back(reader, lanes)
            for lane in lanes:
                await self._send_on(reader, lane)
        await asyncio.Event().wait()  # what was read is drained; nothing more is asked for

    def _gather(self, messages: Messages, lanes: Sequence[Lane]) -> None:
        shards = self._placement.shards_of(messages.partitions)
        for lane in lanes:
            here = shards == lane.shard
            if not here.any():
                continue
            lane.add(messages if here.all() else messages.take(np.flatnonzero(here)))

    async def _take_back(self, reader: TopicReader, lanes: Sequence[Lane]) -> None:
        """Read on from where the shards stand, where another moved the fence or the partition.

        Every lane forgets them first: what waits in one would be read again into the same batch.
        """
        lost = self._astray.union(*(lane.lost for lane in lanes))
        self._astray = set()
        if not lost:
            return
        for lane in lanes:
            lane.lost = set()
            lane.forget(lost)
            lane.loader.recent.forget(lost)
            if lane.paused & lost:
                await reader.resume(lane.paused & lost)
                lane.paused -= lost
        try:
            await reader.reload(lost)
        except TROUBLES as error:
            if kind_of(error) != "transient":
                raise
            # They are nowhere until a shard has answered: the map's watcher brings them up again.
            log.warning("cannot_take_up", partitions=sorted(lost), error=repr(error))
        except KafkaException as error:
            self._astray |= lost
            log.warning("cannot_take_up", partitions=sorted(lost), error=repr(error))

    async def _send_on(self, reader: TopicReader, lane: Lane) -> None:
        age = time.monotonic() - lane.pending_since
        ripe = lane.is_full or (lane.pending and age >= self._settings.batch_age_s)
        if ripe and lane.has_room:
            # After the messages were read: in a re-created topic their offsets are other events'.
            if self._topic_checked_at < reader.polled_at and not await self._check_topic(reader):
                return
            batch = reader.batch(lane.take())
            if batch is not None:
                lane.hand_in(batch)
        elif not lane.pending and lane.has_room:
            batch = reader.without_messages(self._placement.here(reader.partitions, lane.shard))
            if batch is not None:
                lane.hand_in(batch)
        elif lane.is_full:
            running = self._placement.here(reader.partitions - lane.paused, lane.shard)
            if running:
                await reader.pause(running)
                lane.paused |= running
            return
        if lane.paused:
            await reader.resume(lane.paused)
            lane.paused = set()

    def _take_up(self, lanes: Sequence[Lane], partitions: set[int]) -> None:
        """Partitions that were assigned to us start unpaused and with nothing remembered."""
        for lane in lanes:
            lane.loader.recent.forget(partitions)
            lane.paused -= partitions

    async def _halt(self, partition: int, reason: str) -> None:
        log.error("partition_halted", partition=partition, reason=reason)
        pool = self._placement.pool_of(partition)
        await ledger.note_halt(pool, self._settings.topic, partition, reason)

    async def _heartbeat(self, reader: TopicReader, lanes: Sequence[Lane]) -> None:
        """Keep `applied_until` true while nothing arrives, and the lag known."""
        told: set[int] = set()
        stands: dict[int, int] = {}  # as the shards last said
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                seen_at, ends = await reader.log_ends()
            except KafkaException as error:
                log.warning("heartbeat", error=repr(error))
                continue
            answers = await asyncio.gather(
                *(self._note_applied(reader, lane, seen_at, ends) for lane in lanes)
            )
            for answer in answers:
                stands |= answer
            lag = {p: max(0, end - stands[p]) for p, end in ends.items() if p in stands}
            for gone in told - lag.keys():
                telemetry.LAG.remove(gone)
            told = set(lag)
            for partition, count in lag.items():
                telemetry.LAG.labels(partition).set(count)

    async def _note_applied(
        self, reader: TopicReader, lane: Lane, seen_at: datetime, ends: dict[int, int]
    ) -> dict[int, int]:
        """Where a shard's partitions stand; nothing where it does not answer."""
        here = {p: ends[p] for p in self._placement.here(ends, lane.shard)}
        if not here:
            return {}
        was_idle, handed_in, positions = lane.is_idle, lane.handed_in, reader.positions
        pool = self._pools[lane.shard]
        try:
            stands = await ledger.note_applied(pool, reader.topic_id, seen_at, here)
        except TROUBLES as error:
            log.warning("heartbeat", shard=lane.shard, error=repr(error))
            return {}
        if was_idle and lane.handed_in == handed_in:
            # A server that crashed may have lost commits: it is not asked to wait for its disk.
            behind = {p for p, at in stands.items() if at < positions.get(p, 0)}
            if behind:
                log.warning("commits_lost", shard=lane.shard, partitions=sorted(behind))
                self._astray |= behind
        return stands

    async def _watch_progress(self, reader: TopicReader, lanes: Sequence[Lane]) -> None:
        while True:
            await asyncio.sleep(PROGRESS_CHECK_S)
            check_progress(reader, lanes)

    async def _watch_topic(self, reader: TopicReader) -> None:
        while True:
            await asyncio.sleep(TOPIC_CHECK_S)
            await self._check_topic(reader)

    async def _check_topic(self, reader: TopicReader) -> bool:
        """Whether the topic is known to be the one that is read.

        Raises:
            HaltedError: it is another, or has other partitions.
        """
        asked_at = time.time()
        try:
            now = await reader.current_topic()
        except KafkaException as error:
            log.warning("topic_check", error=str(error))
            return False
        if now.topic_id != reader.topic_id:
            raise HaltedError(
                f"topic {self._settings.topic} was re-created while it was read: "
                "start again, and the partitions will say what they need"
            )
        self._check_topic_is_kept(now)
        self._topic_checked_at = asked_at
        return True

    def _check_topic_is_kept(self, now: Topic) -> None:
        """It keeps each message, and each merchant in one partition.

        Raises:
            HaltedError: the topic has other partitions than the shard map, or is compacted.
        """
        mapped = self._placement.partitions
        if now.partitions != mapped:
            raise HaltedError(
                f"topic {self._settings.topic} has {now.partitions} partitions and the shard map "
                f"{mapped}: " + (CHANGED if mapped else "run `footfall migrate`")
            )
        if "compact" in now.cleanup_policy:
            raise HaltedError(
                f"topic {self._settings.topic} has cleanup.policy {now.cleanup_policy}: compaction "
                "removes all but a merchant's last event. `footfall migrate` sets it to delete; "
                "then `reprocess verify` finds what is gone, to be replayed from an archive"
            )

    async def _watch_map(self) -> None:
        """A partition that nobody sends events to moves without a fence failing."""
        while True:
            await asyncio.sleep(MAP_CHECK_S)
            try:
                self._astray |= await self._placement.read()
            except TROUBLES as error:
                if kind_of(error) == "bug":
                    raise
                log.warning("map", error=repr(error))

    async def _refresh(self, pool: asyncpg.Pool) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_every_s)
            try:
                await refresh_late(pool)
            except TROUBLES as error:
                if kind_of(error) == "bug":
                    raise
                log.warning("refresh", error=repr(error))

    async def _watch(self, shard: int, pool: asyncpg.Pool) -> None:
        while True:
            try:
                await watch_shard(shard, pool, self._settings.topic)
            except TROUBLES as error:
                if kind_of(error) == "bug":
                    raise
                log.warning("watch", shard=shard, error=repr(error))
            await asyncio.sleep(self._settings.watch_every_s)
