"""What the messages of a window become by today's logic: the functions of live, over a slice."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from db.history import Offsets, Place
from events.batch import NO_MESSAGES, Messages, Processed
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import Only, process
from ingester.batch import Outcome
from ingester.dedupe import repeats_among, without
from reprocess.deltas import Places
from reprocess.pace import Pace
from reprocess.source import Source


@dataclass(frozen=True, slots=True)
class Scope:
    """Which messages a slice is about: those whose event time lies in the window by the old logic
    or by the new, of one merchant or all. A message that moves in time is replaced as a whole."""

    partition: int
    start: datetime
    end: datetime
    merchant_id: int | None = None

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Half-open."""
        return self.start, self.end

    def place(self, offsets: Offsets) -> Place:
        """Where rows of it stand, of a range of offsets."""
        return Place(self.partition, *self.window, self.merchant_id, *offsets)

    def holds(self, frame: pl.DataFrame) -> pl.Series:
        """For each row with `ts` and `merchant_id`, whether it lies within."""
        within = pl.col("ts").is_between(self.start, self.end, closed="left")
        if self.merchant_id is not None:
            within &= pl.col("merchant_id") == self.merchant_id
        return frame.select(within.fill_null(value=False)).to_series()


@dataclass(frozen=True, slots=True)
class Logic:
    """Today's logic and what it is told."""

    limits: Limits
    enrichment: Enrichment
    dedupe_window: timedelta

    def __call__(self, messages: Messages, only: Only | None = None) -> Processed:
        """Rows, items and rejects of those messages that are wanted, by default all."""
        return process(messages, limits=self.limits, enrichment=self.enrichment, only=only)


@dataclass(frozen=True, slots=True)
class Recounted:
    """What was read, still with its repeats, and how many messages that took."""

    processed: Processed
    messages: int

    def joined(self, *besides: Processed) -> "Recounted":
        """With what was had besides."""
        return Recounted(_concat([self.processed, *besides]), self.messages)

    def only(self, which: Only) -> "Recounted":
        """Those that are wanted."""
        held = self.processed
        frames = (held.rows, held.items, held.rejects)
        return Recounted(Processed(*(part.filter(which(part)) for part in frames)), self.messages)

    @property
    def offsets(self) -> Places:
        """Of all events and rejects."""
        frames = (self.processed.rows, self.processed.rejects)
        return np.concatenate([frame["log_offset"].to_numpy() for frame in frames])

    def settled(self, window: timedelta) -> Outcome:
        """Rows, repeats and rejects; orders are still to be counted once."""
        rows = self.processed.rows.sort("log_offset")
        rows, items, repeated = without(repeats_among(rows, window), rows, self.processed.items)
        return Outcome(rows, items, self.processed.rejects, repeated)


async def recount(
    source: Source,
    partition: int,
    ranges: Sequence[Offsets],
    logic: Logic,
    pace: Pace,
    *,
    only: Only,
    more: bool = False,
) -> Recounted:
    """Read ranges of the log again and keep what is wanted of them; the next batch is read while
    the last one is transformed. `more` says whether what follows them is asked for next."""
    parts: list[Processed] = []
    count = 0
    pending: asyncio.Task[Processed] | None = None
    try:
        async for messages in source.read(partition, ranges, more=more):
            count += len(messages)
            if pending is not None:
                parts.append(await pending)
            pending = asyncio.create_task(asyncio.to_thread(logic, messages, only))
            await pace.take(len(messages))
        if pending is not None:
            parts.append(await pending)
    except BaseException:
        if pending is not None:
            pending.cancel()
        raise
    if not parts:
        parts = [logic(NO_MESSAGES, only)]
    return Recounted(_concat(parts), count)


def _concat(parts: Sequence[Processed]) -> Processed:
    return Processed(
        pl.concat([part.rows for part in parts]),
        pl.concat([part.items for part in parts]),
        pl.concat([part.rejects for part in parts]),
    )
