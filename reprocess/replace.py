"""One slice: its messages read again, and in one transaction what they become in the place of what
stood there.

Rows that live ingest wrote before the slice was read do not change any more, so that all the work
on them is done without its fence. The fence is held only for what arrived since.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import asyncpg
import polars as pl

from db import history, replacement, runs
from db.history import Held, Offsets, Place
from db.measures import Sum
from db.pools import Askable, Connection
from db.replacement import Changes
from db.runs import Done, Run, Slice
from ingester.batch import Outcome
from reprocess.recount import Scope, recount
from reprocess.source import Source
from reprocess.swap import Pass, swap
from reprocess.work import Work

EVERYTHING: Final = (-(2**62), 2**62)  # rows that came from files stand below zero
_SPAN: Final = ["start_offset", "end_offset", "first_ts", "last_ts"]
ROUNDS: Final = 3  # of catching up with live; the last one holds the fence


class HeldBackError(Exception):
    """The numbers would change by more than the operator allows: nothing was published."""


class DoneElsewhereError(Exception):
    """Another process has replaced this slice meanwhile."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A slice whose messages were read before its turn came."""

    slice: Slice
    upto: int  # live ingest added what has later offsets
    found: Pass
    outcome: Outcome


async def read_slice(pool: asyncpg.Pool, source: Source, work: Work, part: Slice) -> Ahead:
    """Read a slice's messages again and work out what they become.

    Raises:
        ReplacementError: the source does not hold what the ledger says of the window.
        asyncpg.PostgresError, OSError: transient ones are the caller's to try again.
    """
    run = work.run
    scope = Scope(part.partition, part.start, part.end, run.merchant_id)
    upto = await history.next_offset(pool, run.topic, part.partition) or 0
    # An archive may hold what the log lost unread. What live ingest adds from here on stays.
    upto = max(upto, source.end(part.partition))
    found = await read_pass(pool, source, work, scope, (EVERYTHING[0], upto))
    outcome = await asyncio.to_thread(found.recounted.settled, work.logic.dedupe_window)
    return Ahead(part, upto, found, outcome)


async def replace_slice(pool: asyncpg.Pool, source: Source, work: Work, ahead: Ahead) -> Done:
    """Replace a slice; what that did. The source is for what arrived since it was read.

    Raises:
        HeldBackError: the change is larger than allowed.
        ReplacementError: the tables are not what the ledger says.
        DoneElsewhereError: another process was faster.
        asyncpg.PostgresError, OSError: transient ones are the caller's to try again.
    """
    run, window, part = work.run, work.logic.dedupe_window, ahead.slice
    ahead = await _as_it_stands(pool, source, work, ahead)
    first, upto, scope = ahead.found, ahead.upto, ahead.found.scope
    work.reach("after_recount")
    async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        if run.sources:
            await history.take_fence(connection, run.topic, part.partition)
        await replacement.lay_out(connection)
        work.reach("after_lay_out")
        everything = first.recounted
        done = await swap(connection, work, first, ahead.outcome)
        for last in () if run.sources else (*[False] * (ROUNDS - 1), True):
            at = await _next_offset(connection, run, part.partition, hold=last)
            if at > upto:
                late = await read_pass(connection, source, work, scope, (upto, at))
                everything = everything.joined(late.recounted)
                outcome = _from(everything.settled(window), upto)
                done = _added(done, await swap(connection, work, late, outcome))
                upto = at
        work.reach("after_fence")
        _check_change(done.sums, run.max_change)
        if not await runs.mark_replaced(connection, run.run_id, part, done):
            raise DoneElsewhereError
        work.reach("before_commit")
    work.reach("after_commit")
    return done


async def read_pass(
    pool: Askable, source: Source, work: Work, scope: Scope, offsets: Offsets
) -> Pass:
    """The messages that hold anything of the scope, of a range of offsets."""
    held = await _held(pool, work, scope, offsets)
    known = scope.knowing(held)
    ranges = await source.ranges(scope.partition, _near(work, scope), held.lines)
    recounted = await recount(source, known, ranges, work.logic, work.pace)
    return Pass(known, offsets, held, recounted)


async def _as_it_stands(pool: asyncpg.Pool, source: Source, work: Work, ahead: Ahead) -> Ahead:
    """What was read ahead beside what the tables hold now that the slice before was replaced. That
    may have moved messages into lines of the ledger that had nothing of this window: then it is
    read again."""
    found = ahead.found
    held = await _held(pool, work, found.scope, found.offsets)
    if not held.lines.select(_SPAN).equals(found.held.lines.select(_SPAN)):
        return await read_slice(pool, source, work, ahead.slice)
    return replace(ahead, found=replace(found, scope=found.scope.knowing(held), held=held))


async def _held(pool: Askable, work: Work, scope: Scope, offsets: Offsets) -> Held:
    place = Place(scope.partition, *scope.window, scope.merchant_id, *offsets)
    return await history.held_places(pool, work.run.topic_id, place, _near(work, scope))


def _near(work: Work, scope: Scope) -> tuple[datetime, datetime]:
    """The window, and as much around it as a bug may have misplaced its messages."""
    return scope.start - work.run.misplaced, scope.end + work.run.misplaced


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


def _added(done: Done, more: Done) -> Done:
    """Two passes of one slice as one."""
    sums = {(each.day, each.measure): each for each in done.sums}
    for each in more.sums:
        had = sums.get((each.day, each.measure), Sum(each.day, each.measure, 0, 0))
        sums[each.day, each.measure] = replace(
            had, before=had.before + each.before, after=had.after + each.after
        )
    a, b = done.changes, more.changes
    columns = {
        name: a.columns.get(name, 0) + b.columns.get(name, 0) for name in (*a.columns, *b.columns)
    }
    changes = Changes(
        before=a.before + b.before,
        after=a.after + b.after,
        changed=a.changed + b.changed,
        gone=a.gone + b.gone,
        made=a.made + b.made,
        columns=columns,
        hours=[*a.hours, *b.hours],
        first=a.first,
        last=a.last,
    )
    return Done(done.messages + more.messages, changes, sorted(sums.values(), key=_order))


def _order(each: Sum) -> tuple[object, str]:
    return each.day, each.measure


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
