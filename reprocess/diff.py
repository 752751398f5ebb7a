"""What today's logic would change, told from a sample of the ledger's lines; nothing is written.

A sample is every n-th line of a partition's window: the same question has the same answer. A line
is a whole batch of live ingest, so that its rows can be laid beside what the tables hold of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import asyncpg
import polars as pl

from db import history
from db.measures import Sum
from db.pools import Connection, borrowed
from db.runs import Changes
from ingester.batch import Outcome
from reprocess.deltas import places_of
from reprocess.look import Found, look, read
from reprocess.plan import ReplayPlan
from reprocess.recount import Scope
from reprocess.source import Source
from reprocess.sums import by_day
from reprocess.swap import lay_beside
from reprocess.work import Work

_ALL: Final = (0, 2**62)


@dataclass(slots=True)
class Measured:
    """One measure over the window: what the sample holds, and what that says of the whole."""

    before: int = 0
    after: int = 0
    before_scaled: float = 0.0
    after_scaled: float = 0.0

    @property
    def change(self) -> float | None:
        """As a share of what was before; None where there was nothing."""
        return (self.after - self.before) / self.before if self.before else None


@dataclass(slots=True)
class Diff:
    """How new numbers would differ from those that stand."""

    lines: int = 0  # of the ledger, in the window
    lines_read: int = 0
    messages: int = 0
    messages_read: int = 0
    rows_read: int = 0
    rows_differing: int = 0
    rows_differing_scaled: float = 0.0
    columns: dict[str, int] = field(default_factory=dict)  # rows of the sample that differ in it
    rejects_differ: int = 0  # messages of the sample that are rejects now and would not be, or so
    measures: dict[str, Measured] = field(default_factory=dict)

    def add(self, changes: Changes, sums: Iterable[Sum], factor: float) -> None:
        """Take in one line, which stands for `factor` as many messages."""
        self.rows_read += changes.before
        self.rows_differing += changes.changed
        self.rows_differing_scaled += changes.changed * factor
        for name, count in changes.columns.items():
            self.columns[name] = self.columns.get(name, 0) + count
        for each in sums:
            known = self.measures.setdefault(each.measure, Measured())
            known.before += each.before
            known.after += each.after
            known.before_scaled += each.before * factor
            known.after_scaled += each.after * factor


def sampled(lines: pl.DataFrame, share: float) -> pl.DataFrame:
    """Every n-th line, at least one of them."""
    return lines.gather_every(max(1, round(1 / share)))


async def diff(
    pools: Sequence[asyncpg.Pool], source: Source, work: Work, plan: ReplayPlan, share: float
) -> Diff:
    """Compare a sample of the plan's window with what today's logic makes of it."""
    found = Diff()
    asked = plan.asked
    reach = (asked.start - asked.misplaced, asked.end + asked.misplaced)
    for partition, shard in sorted({(p.slice.partition, p.shard) for p in plan.planned}):
        lines = await history.lines_of(pools[shard], plan.topic_id, partition, reach, _ALL)
        chosen = sampled(lines, share)
        found.lines += lines.height
        found.lines_read += chosen.height
        found.messages += int(lines["messages"].sum())
        factor = int(lines["messages"].sum()) / max(1, int(chosen["messages"].sum()))
        scope = Scope(partition, asked.start, asked.end, asked.merchant_id)
        for offsets in chosen.select("start_offset", "end_offset").iter_rows():
            again = await read(pools[shard], source, work, scope, offsets)
            found.messages_read += again.recounted.messages
            async with borrowed(pools[shard]) as connection:
                part = await look(connection, source, work, scope, offsets, was=again)
                await _compare(connection, work, part, found, factor)
    return found


async def _compare(
    connection: Connection, work: Work, part: Found, found: Diff, factor: float
) -> None:
    outcome = _with_known_repeats(part.recounted.settled(work.logic.dedupe_window), part)
    laid = await lay_beside(connection, replace(work, mend=True), part, outcome)
    found.add(laid.difference.changes, by_day(laid.sums), factor)
    old, new = places_of(laid.rejects), places_of(laid.outcome.rejects)
    found.rejects_differ += len(set(old.tolist()) ^ set(new.tolist()))


def _with_known_repeats(outcome: Outcome, part: Found) -> Outcome:
    """What repeats an event of another line cannot be told from the line alone: what stands as a
    repeat stays one."""
    known = pl.col("log_offset").is_in(part.repeats["log_offset"].to_list())
    return Outcome(
        outcome.rows.filter(~known),
        outcome.items.filter(~known),
        outcome.rejects,
        outcome.repeated,
    )
