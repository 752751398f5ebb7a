"""The loop: read, gather by shard, process, load. Each shard has a lane of its own.

A lane processes its next batch while the last one is copied. When a shard is away its lane fills,
its partitions are paused, and the others go on.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import asyncpg
import numpy as np
import structlog
from confluent_kafka import KafkaException

from db import ledger
from db.errors import kind_of
from db.pools import INGEST_SETTINGS, open_pools, shard_map
from db.refresh import refresh_late
from events.batch import Messages
from events.enrich import Enrichment
from events.transform import process
from ingester import telemetry
from ingester.batch import Batch, Ready
from ingester.consume import TopicReader
from ingester.load import Loaded, Loader, Reach
from ingester.settings import IngestSettings
from ingester.watch import watch_shard

log = structlog.get_logger(__name__)

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
HEARTBEAT_S: Final = 1.0
TOPIC_CHECK_S: Final = 30.0


class HaltedError(Exception):
    """The topic is no longer the one that was read; the sentence says what to do."""


class Lane:
    """One shard's part of the pipeline."""

    def __init__(self, shard: int, settings: IngestSettings, loader: Loader) -> None:
        self.shard = shard
        self.loader = loader
        self.pending: list[Messages] = []
        self.pending_since = 0.0
        self.paused: set[int] = set()
        self.lost: set[int] = set()
        self._settings = settings
        self._enrichment = Enrichment.open(settings.country_file)
        self._gathered: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._ready: asyncio.Queue[Ready] = asyncio.Queue(1)

    @property
    def waiting(self) -> int:
        """How many messages are not yet in a batch."""
        return sum(map(len, self.pending))

    @property
    def has_room(self) -> bool:
        """Whether another batch can be handed in without waiting."""
        return not self._gathered.full()

    def forget(self, partitions: set[int]) -> None:
        """Drop what waits of these: it will be read again."""
        kept = [
            part.take(np.flatnonzero(~np.isin(part.partitions, list(partitions))))
            for part in self.pending
        ]
        self.pending = [part for part in kept if len(part)]

    def hand_in(self, batch: Batch) -> None:
        """Take a batch; only when there is room."""
        self._gathered.put_nowait(batch)

    async def process(self) -> None:
        """Turn batches into rows, on a thread: polars leaves the interpreter free meanwhile."""
        while True:
            batch = await self._gathered.get()
            processed = await asyncio.to_thread(
                process,
                batch.messages,
                limits=self._settings.limits,
                enrichment=self._enrichment,
            )
            await self._ready.put(Ready(batch, processed))
            self._gathered.task_done()

    async def load(self) -> None:
        """Commit batches in order, each until it is in."""
        while True:
            ready = await self._ready.get()
            began = time.monotonic()
            self._note(await self._load_patiently(ready), time.monotonic() - began)
            self._ready.task_done()

    async def drain(self) -> None:
        """Return once everything handed in is committed."""
        await self._gathered.join()
        await self._ready.join()

    async def _load_patiently(self, ready: Ready) -> Loaded:
        attempt = 0
        while True:
            try:
                return await self.loader.load(ready)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if kind_of(error) != "transient":
                    raise
                telemetry.RETRIES.labels(self.shard).inc()
                log.warning("shard_away", shard=self.shard, error=repr(error), attempt=attempt)
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1

    def _note(self, loaded: Loaded, seconds: float) -> None:
        telemetry.EVENTS.labels(self.shard).inc(loaded.rows)
        telemetry.DUPLICATES.labels(self.shard).inc(loaded.duplicates)
        telemetry.BATCH_SECONDS.labels(self.shard).observe(seconds)
        for reason, count in loaded.rejects.group_by("reason").len().iter_rows():
            telemetry.REJECTS.labels(reason).inc(count)
            if reason == "transform_gap":
                telemetry.GAPS.inc(count)
        if loaded.lost:
            telemetry.LOST_FENCES.inc(len(loaded.lost))
            self.lost |= loaded.lost
        log.info(
            "committed",
            shard=self.shard,
            rows=loaded.rows,
            rejects=loaded.rejects.height,
            duplicates=loaded.duplicates,
            seconds=round(seconds, 3),
        )


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

    def stop(self) -> None:
        """End in order: commit what was read, leave the group."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until stopped.

        Raises:
            HaltedError: the topic was re-created.
            Exception: whatever ends a lane; the process should start afresh.
        """
        settings = self._settings
        pools = await open_pools(settings.shards, INGEST_SETTINGS, size=4)
        self._pools = pools
        self._map = await shard_map(pools[0])
        self._shard_of = np.full(max(self._map, default=-1) + 1, -1)
        self._shard_of[list(self._map)] = list(self._map.values())
        reader = TopicReader(settings, self._held_offsets, self._halt)
        try:
            await reader.open()
            window = timedelta(seconds=settings.dedupe_window_s)
            lanes = [
                Lane(number, settings, Loader(pool, reader.topic_id, window, self._reach))
                for number, pool in enumerate(pools)
            ]
            reader.on_assigned = lambda gained: self._take_up(lanes, gained)
            work = [lane.process() for lane in lanes] + [lane.load() for lane in lanes]
            work += [self._refresh(pool) for pool in pools]
            work += [self._watch(shard, pool) for shard, pool in enumerate(pools)]
            work += [self._heartbeat(reader), self._watch_topic(reader)]
            self._say_ready()
            await self._until_stopped(reader, lanes, [asyncio.create_task(each) for each in work])
        finally:
            await reader.close()
            for pool in pools:
                pool.terminate()

    async def _until_stopped(
        self, reader: TopicReader, lanes: Sequence[Lane], workers: list[asyncio.Task[None]]
    ) -> None:
        reading = asyncio.create_task(self._read(reader, lanes))
        try:
            done, _ = await asyncio.wait([reading, *workers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            draining = [asyncio.create_task(lane.drain()) for lane in lanes]
            await asyncio.wait(draining, timeout=30)
        finally:
            for task in (reading, *workers):
                task.cancel()
            await asyncio.gather(reading, *workers, return_exceptions=True)

    async def _read(self, reader: TopicReader, lanes: Sequence[Lane]) -> None:
        while not self._stopping.is_set():
            messages = await reader.read()
            self._reach("after_consume")
            if len(messages):
                self._gather(messages, lanes)
            for lane in lanes:
                await self._send_on(reader, lane)

    def _gather(self, messages: Messages, lanes: Sequence[Lane]) -> None:
        shards = self._shard_of[messages.partitions]
        for lane in lanes:
            here = shards == lane.shard
            if not here.any():
                continue
            if not lane.pending:
                lane.pending_since = time.monotonic()
            lane.pending.append(messages if here.all() else messages.take(np.flatnonzero(here)))

    async def _send_on(self, reader: TopicReader, lane: Lane) -> None:
        settings = self._settings
        if lane.lost:
            lost, lane.lost = lane.lost, set()
            lane.forget(lost)
            lane.loader.recent.forget(lost)
            await reader.reload(lost)
        waiting = lane.waiting
        ripe = waiting >= settings.batch_messages or (
            waiting and time.monotonic() - lane.pending_since >= settings.batch_age_s
        )
        if ripe and lane.has_room:
            batch = reader.batch(Messages.joined(lane.pending))
            lane.pending = []
            if batch is not None:
                lane.hand_in(batch)
        elif waiting >= settings.batch_messages:
            running = {p for p in reader.partitions - lane.paused if self._map[p] == lane.shard}
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

    async def _held_offsets(self, topic_id: str, low: dict[int, int]) -> list[ledger.Held]:
        held: list[ledger.Held] = []
        for shard, pool in enumerate(self._pools):
            here = {p: first for p, first in low.items() if self._map.get(p) == shard}
            if here:
                held += await ledger.held_offsets(pool, self._settings.topic, topic_id, here)
        return held

    async def _halt(self, partition: int, reason: str) -> None:
        log.error("partition_halted", partition=partition, reason=reason)
        pool = self._pools[self._map[partition]]
        await ledger.note_halt(pool, self._settings.topic, partition, reason)

    async def _heartbeat(self, reader: TopicReader) -> None:
        """Keep `applied_until` true while nothing arrives, and the lag known."""
        told: set[int] = set()
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                seen_at, ends = await reader.log_ends()
                lag = reader.behind(ends)
                for gone in told - lag.keys():
                    telemetry.LAG.remove(gone)
                told = set(lag)
                for partition, count in lag.items():
                    telemetry.LAG.labels(partition).set(count)
                for shard, pool in enumerate(self._pools):
                    here = {p: end for p, end in ends.items() if self._map[p] == shard}
                    if here:
                        await ledger.note_applied(pool, reader.topic_id, seen_at, here)
            except (
                KafkaException,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                OSError,
            ) as error:
                log.warning("heartbeat", error=repr(error))

    async def _watch_topic(self, reader: TopicReader) -> None:
        while True:
            await asyncio.sleep(TOPIC_CHECK_S)
            try:
                now = await reader.current_topic_id()
            except KafkaException as error:
                log.warning("topic_check", error=str(error))
                continue
            if now != reader.topic_id:
                raise HaltedError(
                    f"topic {self._settings.topic} was re-created while it was read: "
                    "start again, and the partitions will say what they need"
                )

    async def _refresh(self, pool: asyncpg.Pool) -> None:
        while True:
            await asyncio.sleep(self._settings.refresh_every_s)
            try:
                await refresh_late(pool)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if kind_of(error) == "bug":
                    raise
                log.warning("refresh", error=repr(error))

    async def _watch(self, shard: int, pool: asyncpg.Pool) -> None:
        while True:
            try:
                await watch_shard(shard, pool, self._settings.topic)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if kind_of(error) == "bug":
                    raise
                log.warning("watch", shard=shard, error=repr(error))
            await asyncio.sleep(self._settings.watch_every_s)
