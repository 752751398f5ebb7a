"""One slice: its messages read again, and in one transaction what they become in the place of what
stood there.

Rows that live ingest wrote before the slice was read do not change any more, so that all the work
on them is done without its fence. The fence is held only for what arrived since.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import polars as pl

from db import history, replacement, runs, standing
from db.measures import Sum
from db.pools import Connection, borrowed, transaction
from db.rollups import HOUR
from db.runs import Done, Run, Slice
from db.standing import Rows
from ingester.batch import Outcome
from reprocess.look import Read, look, read
from reprocess.recount import Scope
from reprocess.source import Source
from reprocess.swap import swap
from reprocess.work import Work

EVERYTHING: Final = (-(2**62), 2**62)  # rows that came from files stand below zero
ROUNDS: Final = 3  # of catching up with live; the last one holds the fence


class HeldBackError(Exception):
    """The numbers would change by more than the operator allows: nothing was published."""


class DoneElsewhereError(Exception):
    """Another process has replaced this slice meanwhile."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows that stood in a slice's window, and when any of the partition had last been replaced."""

    rows: Rows
    replaced_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """A slice whose messages, and the rows that stood there, were read before its turn came."""

    slice: Slice
    upto: int  # live ingest added what has later offsets
    read: Read
    taken: Taken | None


@dataclass(slots=True)
class Turn:
    """What the slice before did to a partition: whether rows read before it still stand after."""

    _before: datetime | None = None
    _after: datetime | None = None

    def rows_of(self, taken: Taken, replaced_at: datetime | None) -> Rows | None:
        """The rows that were read ahead, if none of them has been replaced since."""
        kept_to_itself = (taken.replaced_at, replaced_at) == (self._before, self._after)
        return taken.rows if kept_to_itself or taken.replaced_at == replaced_at else None

    def note(self, part: Slice, done: Done, before: datetime | None, after: datetime) -> None:
        """A slice was replaced, and with it perhaps rows outside its window."""
        within = all(part.start <= start and end <= part.end for start, end in done.changes.hours)
        self._before, self._after = (before, after) if within else (None, None)


async def read_slice(
    pool: asyncpg.Pool,
    source: Source,
    work: Work,
    part: Slice,
    *,
    until: datetime,
    before: Read | None = None,
) -> Ahead:
    """Read a slice's messages again and work out what they become.

    Args:
        until: the end of the partition's next slice: what is read and belongs there is kept.
        before: what was read for the slice before.

    Raises:
        ReplacementError: the source does not hold what the ledger says of the window.
        asyncpg.PostgresError, OSError: transient ones are the caller's to try again.
    """
    upto = await history.next_offset(pool, work.run.topic, part.partition) or 0
    # An archive may hold what the log lost unread. What live ingest adds from here on stays.
    upto = max(upto, source.end(part.partition))
    offsets = (EVERYTHING[0], upto)
    scope = scope_of(work, part)
    found = await read(pool, source, work, scope, offsets, until=until, before=before)
    if not _stands(work, part):
        return Ahead(part, upto, found, None)
    async with borrowed(pool) as connection:
        replaced_at, _ = await history.replaced_at(connection, work.run.topic, part.partition)
        rows = await standing.take(connection, scope.place(offsets))
    return Ahead(part, upto, found, Taken(rows, replaced_at))


def _stands(work: Work, part: Slice) -> bool:
    """Whether rows that are read ahead will do: not where live ingest may still add what files hold
    beyond the ledger, nor within an hour, for what changes is known by the hour."""
    return not work.run.sources and part.end - part.start >= HOUR


async def replace_slice(
    pool: asyncpg.Pool, source: Source, work: Work, ahead: Ahead, turn: Turn
) -> Done:
    """Replace a slice; what that did. The source is for what was not read ahead.

    Raises:
        HeldBackError: the change is larger than allowed.
        ReplacementError: the tables are not what the ledger says.
        DoneElsewhereError: another process was faster.
        asyncpg.PostgresError, OSError: transient ones are the caller's to try again.
    """
    run, window, part = work.run, work.logic.dedupe_window, ahead.slice
    upto, scope = ahead.upto, scope_of(work, part)
    work.reach("after_recount")
    async with transaction(pool) as connection:
        await replacement.prepare(connection, part.partition)
        if run.sources:
            await history.take_fence(connection, run.topic, part.partition)
        before, now = await history.replaced_at(connection, run.topic, part.partition)
        old = turn.rows_of(ahead.taken, before) if ahead.taken else None
        offsets = (EVERYTHING[0], upto)
        first = await look(connection, source, work, scope, offsets, was=ahead.read, old=old)
        everything = first.recounted
        outcome = await asyncio.to_thread(everything.settled, window)
        done = await swap(connection, work, first, outcome)
        for last in () if run.sources else (*[False] * (ROUNDS - 1), True):
            at = await _next_offset(connection, run, part.partition, hold=last)
            more = await read(connection, source, work, scope, (upto, at))
            if not more.lines.is_empty():  # most of what arrives is of now, not of the window
                late = await look(connection, source, work, scope, (upto, at), was=more)
                everything = everything.joined(late.recounted.processed)
                outcome = _from(everything.settled(window), upto)
                done = done.and_more(await swap(connection, work, late, outcome))
            upto = at
        work.reach("after_fence")
        _check_change(done.sums, run.max_change)
        if not await runs.mark_replaced(connection, run.run_id, part, done):
            raise DoneElsewhereError
        work.reach("before_commit")
    turn.note(part, done, before, now)
    work.reach("after_commit")
    return done


def scope_of(work: Work, part: Slice) -> Scope:
    """What a slice of a run is about."""
    return Scope(part.partition, part.start, part.end, work.run.merchant_id)


async def _next_offset(connection: Connection, run: Run, partition: int, *, hold: bool) -> int:
    if hold:
        return await history.take_fence(connection, run.topic, partition)
    return await history.next_offset(connection, run.topic, partition) or 0


def _from(outcome: Outcome, offset: int) -> Outcome:
    """What became of the messages from an offset on."""
    later = pl.col("log_offset") >= offset
    return Outcome(
        outcome.rows.filter(later),
        outcome.items.filter(later),
        outcome.rejects.filter(later),
        outcome.repeated.filter(later),
    )


def _check_change(sums: list[Sum], most: float | None) -> None:
    if most is None:
        return
    for each in sums:
        if each.change > most:
            raise HeldBackError(
                f"{each.measure} of {each.day} would go from {each.before} to {each.after}, "
                f"more than {most:.0%}: look at it, then `reprocess resume` with a larger "
                "--max-change, or --cancel"
            )
