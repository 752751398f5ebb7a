"""A slice as the log has it and as the tables do.

Messages are read by the time that today's logic gives them. What stands in the window and was not
found by its time has moved out of it, or was something else before: it is read again by its offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from db import history, standing
from db.history import Offsets, Place
from db.pools import Askable, Connection
from db.standing import Rows
from reprocess.deltas import Places, not_among, places_of
from reprocess.ranges import lying_in, shared, standing_at, without
from reprocess.recount import Recounted, Scope, recount
from reprocess.source import Source
from reprocess.work import Work

_SPAN: Final = ["start_offset", "end_offset", "first_ts", "last_ts"]


@dataclass(frozen=True, slots=True)
class Read:
    """What was read for a slice: everything that its ledger lines hold up to an event time."""

    scope: Scope  # to the end of the slice that comes next
    lines: pl.DataFrame
    ranges: list[Offsets]
    fresh: list[Offsets]  # those of the ranges that were not had from the slice before
    recounted: Recounted

    def has(self, scope: Scope, ranges: Sequence[Offsets]) -> list[Offsets]:
        """The parts of the ranges of which another slice's events are all here."""
        mine = self.scope
        within = mine.start <= scope.start and scope.end <= mine.end
        return shared(ranges, self.fresh) if within else []


@dataclass(frozen=True, slots=True)
class Found:
    """Messages of a range of offsets: what the tables hold of them, and what they become."""

    scope: Scope
    lines: pl.DataFrame  # of the ledger, that hold anything of the window or near it
    place: Place
    old: Rows  # all that stands there
    rejects: pl.DataFrame  # those that stand within the offsets, wherever in time
    repeats: pl.DataFrame
    known: Places  # offsets of all that stands in the window
    recounted: Recounted


async def read(
    pool: Askable,
    source: Source,
    work: Work,
    scope: Scope,
    offsets: Offsets,
    *,
    until: datetime | None = None,
    before: Read | None = None,
) -> Read:
    """Read what the ledger says of a scope again.

    Args:
        until: the end of the slice that comes next, whose events are kept for it.
        before: what was read for the slice that came before.

    Raises:
        ReplacementError: the source does not hold what the ledger says of the window.
    """
    lines = await _lines(pool, work, scope, offsets)
    ranges = await source.ranges(scope.partition, _near(work, scope), lines)
    had = before.has(scope, ranges) if before is not None else []
    fresh = without(ranges, had)
    wanted = Scope(scope.partition, scope.start, until or scope.end, scope.merchant_id)
    recounted = await recount(
        source,
        scope.partition,
        fresh,
        work.logic,
        work.pace,
        only=wanted.holds,
        more=wanted.end > scope.end,
    )
    if before is not None and had:
        kept = before.recounted.only(lying_in(had))
        recounted = recounted.joined(kept.only(wanted.holds).processed)
    return Read(wanted, lines, ranges, fresh, recounted)


async def look(
    connection: Connection,
    source: Source,
    work: Work,
    scope: Scope,
    offsets: Offsets,
    *,
    was: Read,
    old: Rows | None = None,
) -> Found:
    """What the tables hold now, beside what was read; where the ledger has other lines of the
    window by now, that is read again.

    Args:
        old: the rows that stand in the window, where that is known.

    Raises:
        ReplacementError: the source does not hold what the ledger says of the window.
    """
    lines = await _lines(connection, work, scope, offsets)
    if not lines.select(_SPAN).equals(was.lines.select(_SPAN)):
        was = await read(connection, source, work, scope, offsets, before=was)
    at = scope.place(offsets)
    if old is None:
        old = await standing.take(connection, at)
    within = _span(was.ranges, lines, offsets)
    place, from_files = (scope.partition, within), offsets[0] < 0
    rejects = await history.rejects_of(connection, work.run.topic_id, *place, from_files=from_files)
    times = times_of(work, scope, lines)
    repeats = await history.repeats_of(connection, *place, times, from_files=from_files)
    here = [places_of(frame.filter(scope.holds(frame))) for frame in (rejects, repeats)]
    known = np.concatenate([places_of(old.events), *here])
    recounted = await _mine(source, work, scope, was, known)
    return Found(scope, lines, at, old, rejects, repeats, known, recounted)


async def _mine(source: Source, work: Work, scope: Scope, was: Read, known: Places) -> Recounted:
    """What lies in the window by its new time, and what stands in it."""
    mine = was.recounted.only(scope.holds)
    others = not_among(known, mine.offsets)
    if others.size == 0:
        return mine
    beyond = was.recounted.only(standing_at(others))
    gone = np.sort(not_among(others, beyond.offsets))
    ranges = [each for span in was.ranges for each in _around(gone, span)]
    again = await recount(
        source, scope.partition, ranges, work.logic, work.pace, only=standing_at(gone)
    )
    return mine.joined(beyond.processed, again.processed)


def _span(ranges: Sequence[Offsets], lines: pl.DataFrame, offsets: Offsets) -> Offsets:
    """The offsets, no further than what was read and the lines reach."""
    both = [*ranges, *lines.select("start_offset", "end_offset").iter_rows()]
    if not both:
        return offsets[0], offsets[0]
    first, end = min(start for start, _ in both), max(end for _, end in both)
    return max(offsets[0], first), min(offsets[1], end)


def _around(offsets: Places, span: Offsets) -> list[Offsets]:
    """Ranges within a span that hold these offsets."""
    inside = offsets[(offsets >= span[0]) & (offsets < span[1])]
    each = pl.DataFrame({"start_offset": inside, "end_offset": inside + 1})
    return history.ranges_of(each)


async def _lines(pool: Askable, work: Work, scope: Scope, offsets: Offsets) -> pl.DataFrame:
    return await history.lines_of(
        pool, work.run.topic_id, scope.partition, _near(work, scope), offsets
    )


def _near(work: Work, scope: Scope) -> tuple[datetime, datetime]:
    """The window, and as much around it as a bug may have misplaced its messages."""
    return scope.start - work.run.misplaced, scope.end + work.run.misplaced


def times_of(work: Work, scope: Scope, lines: pl.DataFrame) -> tuple[datetime, datetime]:
    """The event times that messages of these lines may have by the old logic."""
    times = [*_near(work, scope)]
    times += [t for name in ("first_ts", "last_ts") for t in lines[name].to_list()]
    return min(times), max(times) + timedelta(microseconds=1)
