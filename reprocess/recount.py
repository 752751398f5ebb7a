"""What the messages of a window become by today's logic: the functions of live, over a slice."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from db.history import Held, Offsets
from events.batch import Messages, Processed
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import process
from ingester.batch import Outcome
from ingester.dedupe import repeats_among, without
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
    held: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Half-open."""
        return self.start, self.end

    def knowing(self, held: Held) -> "Scope":
        """The scope that knows, too, which messages the tables hold within the window."""
        here = [
            frame.filter(self.holds(frame)).get_column("log_offset").to_numpy()
            for frame in (held.rejects, held.repeats)
        ]
        known = np.concatenate([self.held, np.asarray(held.events, np.int64), *here])
        return replace(self, held=known)

    def holds(self, frame: pl.DataFrame) -> pl.Series:
        """For each row with `ts`, `merchant_id` and `log_offset`, whether it is meant."""
        within = pl.col("ts").is_between(self.start, self.end, closed="left")
        if self.merchant_id is not None:
            within &= (pl.col("merchant_id") == self.merchant_id).fill_null(value=False)
        mask = frame.select(within).to_series()
        if self.held.size:
            known = np.isin(frame.get_column("log_offset").to_numpy(), self.held)
            mask = mask | pl.Series(known)
        return mask


@dataclass(frozen=True, slots=True)
class Logic:
    """Today's logic and what it is told."""

    limits: Limits
    enrichment: Enrichment
    dedupe_window: timedelta

    def __call__(self, messages: Messages, scope: Scope) -> Processed:
        """Rows, items and rejects of those messages that a scope is about."""
        return process(messages, limits=self.limits, enrichment=self.enrichment, only=scope.holds)


@dataclass(frozen=True, slots=True)
class Recounted:
    """What was read, still with its repeats, and how many messages that took."""

    processed: Processed
    messages: int

    def joined(self, later: "Recounted") -> "Recounted":
        """With what arrived since."""
        parts = (self.processed, later.processed)
        return Recounted(_concat(parts), self.messages + later.messages)

    def settled(self, window: timedelta) -> Outcome:
        """Rows, repeats and rejects; orders are still to be counted once."""
        rows = self.processed.rows.sort("log_offset")
        rows, items, repeated = without(repeats_among(rows, window), rows, self.processed.items)
        return Outcome(rows, items, self.processed.rejects, repeated)


async def recount(
    source: Source, scope: Scope, ranges: Sequence[Offsets], logic: Logic, pace: Pace
) -> Recounted:
    """Read ranges of the log again and keep what is of the scope; the next batch is read while
    the last one is transformed."""
    parts: list[Processed] = []
    count = 0
    pending: asyncio.Task[Processed] | None = None
    try:
        async for messages in source.read(scope.partition, ranges):
            count += len(messages)
            if pending is not None:
                parts.append(await pending)
            pending = asyncio.create_task(asyncio.to_thread(logic, messages, scope))
            await pace.take(len(messages))
        if pending is not None:
            parts.append(await pending)
    except BaseException:
        if pending is not None:
            pending.cancel()
        raise
    if not parts:
        parts = [logic(NOTHING, scope)]
    return Recounted(_concat(parts), count)


NOTHING = Messages([], np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))


def _concat(parts: Sequence[Processed]) -> Processed:
    return Processed(
        pl.concat([part.rows for part in parts]),
        pl.concat([part.items for part in parts]),
        pl.concat([part.rejects for part in parts]),
    )
