"""One shard's part of the pipeline: a batch is processed while the one before it is copied."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import structlog

from db.errors import TROUBLES, kind_of
from events.batch import Messages
from events.enrich import Enrichment
from events.transform import process
from ingester import telemetry
from ingester.batch import Batch, Ready
from ingester.load import Loaded, Loader
from ingester.settings import IngestSettings

log = structlog.get_logger(__name__)

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)


class Lane:
    """One shard's part of the pipeline."""

    def __init__(
        self, shard: int, settings: IngestSettings, loader: Loader, enrichment: Enrichment
    ) -> None:
        self.shard = shard
        self.loader = loader
        self.pending: list[Messages] = []
        self.pending_bytes = 0
        self.pending_since = 0.0
        self.paused: set[int] = set()
        self.lost: set[int] = set()
        self._settings = settings
        self._enrichment = enrichment
        self._gathered: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._ready: asyncio.Queue[Ready] = asyncio.Queue(1)
        self.handed_in = 0  # batches
        self._done = 0
        self._moved_at = 0.0  # when a batch was last handed in, processed, committed or tried

    @property
    def waiting(self) -> int:
        """How many messages are not yet in a batch."""
        return sum(map(len, self.pending))

    @property
    def is_full(self) -> bool:
        """Whether a whole batch is waiting."""
        settings = self._settings
        return self.waiting >= settings.batch_messages or self.pending_bytes >= settings.batch_bytes

    def add(self, messages: Messages) -> None:
        """Keep messages for the next batch."""
        if not self.pending:
            self.pending_since = time.monotonic()
        self.pending.append(messages)
        self.pending_bytes += messages.size

    def take(self) -> Messages:
        """All that is waiting, which is not waiting any more."""
        joined = Messages.joined(self.pending)
        self.pending, self.pending_bytes = [], 0
        return joined

    @property
    def stalled_s(self) -> float:
        """For how long it has had work and neither did any of it nor failed at it, in seconds."""
        return 0.0 if self.is_idle else time.monotonic() - self._moved_at

    @property
    def is_idle(self) -> bool:
        """Whether all that was handed in is stored or was given up."""
        return self._done == self.handed_in

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
        self.pending_bytes = sum(part.size for part in self.pending)

    def hand_in(self, batch: Batch) -> None:
        """Take a batch; only when there is room."""
        self._gathered.put_nowait(batch)
        self.handed_in += 1
        self._moved_at = time.monotonic()

    async def process(self) -> None:
        """Turn batches into rows, on a thread: polars leaves the interpreter free meanwhile."""
        while True:
            batch = await self._gathered.get()
            try:
                with self._read_again_if_it_fails(batch):
                    processed = await asyncio.to_thread(
                        process,
                        batch.messages,
                        limits=self._settings.limits,
                        enrichment=self._enrichment,
                    )
                await self._ready.put(Ready(batch, processed))
                self._moved_at = time.monotonic()
            finally:
                self._gathered.task_done()

    async def load(self) -> None:
        """Commit batches in order, each until it is in."""
        while True:
            ready = await self._ready.get()
            began = time.monotonic()
            try:
                with self._read_again_if_it_fails(ready.batch):
                    loaded = await self._load_patiently(ready)
                self._note(loaded, time.monotonic() - began)
                self._done += 1
            finally:
                self._moved_at = time.monotonic()
                self._ready.task_done()

    @contextmanager
    def _read_again_if_it_fails(self, batch: Batch) -> Iterator[None]:
        """A batch that an error dropped is read again from the offset that the shard stores."""
        try:
            yield
        except Exception:
            self.lost |= {span.partition for span in batch.spans}
            self._done += 1
            raise

    async def drain(self) -> None:
        """Return once everything handed in is committed."""
        await self._gathered.join()
        await self._ready.join()

    async def _load_patiently(self, ready: Ready) -> Loaded:
        attempt = 0
        while True:
            try:
                return await self.loader.load(ready)
            except TROUBLES as error:
                self._moved_at = time.monotonic()
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
