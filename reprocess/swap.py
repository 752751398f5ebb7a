"""One pass within the transaction of a slice: what messages become, in the place of what stands."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from db import history, measures, orders, replacement
from db.history import Held, Offsets, Place
from db.ledger import note_days
from db.orders import Claim, Order, Verdict
from db.pools import Connection
from db.replacement import Changes, ReplacementError
from db.runs import Done
from ingester.batch import Outcome
from ingester.load import days_of, uncounted
from reprocess.deltas import Places, deltas_of, lines_that_differ, per_line, places_of
from reprocess.recount import Recounted, Scope
from reprocess.work import Work

_MOMENT: Final = timedelta(microseconds=1)
_REPEAT: Final = ["log_offset", "ts", "merchant_id"]
_REJECT: Final = ["log_offset", "ts", "reason", "field", "detail"]


@dataclass(frozen=True, slots=True)
class Pass:
    """Messages of a range of offsets: what the tables hold of them, and what they become."""

    scope: Scope
    offsets: Offsets
    held: Held
    recounted: Recounted


@dataclass(frozen=True, slots=True)
class Beside:
    """Old rows and new laid side by side in the transaction's temporary tables."""

    outcome: Outcome  # with orders counted once
    changes: Changes
    events: Places  # offsets of the old events
    items: Places  # of the old items, one an item
    rejects: pl.DataFrame  # the old ones
    repeats: pl.DataFrame
    verdict: Verdict

    @property
    def same_rejects(self) -> bool:
        """Whether the rejects are the old ones."""
        new = self.outcome.rejects.sort("log_offset")
        return self.rejects.select(_REJECT).equals(new.select(_REJECT))

    @property
    def same_repeats(self) -> bool:
        """Whether the repeats are the old ones."""
        new = self.outcome.repeated.sort("log_offset")
        return self.repeats.select(_REPEAT).equals(new.select(_REPEAT))


async def lay_beside(connection: Connection, work: Work, part: Pass, outcome: Outcome) -> Beside:
    """Lay an outcome beside what the tables hold of a pass; nothing else is written.

    Raises:
        ReplacementError: the tables are not what the ledger says.
    """
    await replacement.clear(connection)
    events = await _take_old(connection, work, part, outcome)
    items = np.asarray(await replacement.old_items(connection), np.int64)
    outcome, verdict = await _count_orders_once(connection, part.scope, events, outcome)
    doubled = bool((events[1:] == events[:-1]).any())
    changes = await replacement.compare(connection, doubled=doubled)
    meant = np.concatenate([part.scope.held, events, _offsets_of(outcome)])
    return Beside(
        outcome,
        changes,
        events,
        items,
        _among(part.held.rejects, meant),
        _among(part.held.repeats, meant),
        verdict,
    )


async def swap(connection: Connection, work: Work, part: Pass, outcome: Outcome) -> Done:
    """Put an outcome in the place of what the tables hold of a pass.

    Raises:
        ReplacementError: the tables are not what the ledger says, or did not do as they were told.
    """
    run, scope = work.run, part.scope
    beside = await lay_beside(connection, work, part, outcome)
    sums = await measures.note_changes(connection, run.run_id, scope.partition, scope.start)
    work.reach("after_compare")
    await replacement.delete_old(connection, scope.partition, beside.changes)
    work.reach("after_delete")
    await replacement.insert_new(connection, beside.changes)
    work.reach("after_insert")
    await orders.keep(connection, scope.partition, beside.verdict)
    await _replace_what_is_not_counted(connection, run.topic_id, scope.partition, beside)
    before = {
        "events": beside.events,
        "items": beside.items,
        "rejects": places_of(beside.rejects),
        "repeats": places_of(beside.repeats),
    }
    deltas = deltas_of(part.held.lines, before, beside.outcome)
    await history.adjust_lines(connection, run.topic_id, scope.partition, deltas)
    if work.mend:
        # What was lost or doubled was never counted off the ledger: its lines are counted anew.
        await history.recount_lines(connection, run.topic_id, scope.partition, part.held.lines)
    await note_days(connection, days_of(beside.outcome.rows), run.logic_version)
    return Done(part.recounted.messages, beside.changes, sums)


async def _take_old(connection: Connection, work: Work, part: Pass, outcome: Outcome) -> Places:
    """Lay out the old rows: those within the window, and those of messages that come into it."""
    scope = part.scope
    place = Place(scope.partition, *scope.window, scope.merchant_id, *part.offsets)
    old = np.asarray(await replacement.take_old(connection, place), np.int64)
    if not work.mend:
        _check_ledger(part, old)
    known = [old, places_of(part.held.rejects), places_of(part.held.repeats)]
    moved = _not_among(_offsets_of(outcome), np.concatenate(known))
    if moved.size == 0:
        return old
    misplaced = work.run.misplaced
    times = [scope.start - misplaced, scope.end + misplaced]
    times += [t for name in ("first_ts", "last_ts") for t in part.held.lines[name].to_list()]
    elsewhere = Place(scope.partition, min(times), max(times) + _MOMENT)
    both = np.asarray(await replacement.take_old(connection, elsewhere, moved.tolist()), np.int64)
    if not work.mend:
        _check_missing(part, _not_among(moved, both))
    return both


def _check_missing(part: Pass, missing: Places) -> None:
    """A message that the ledger counts must stand somewhere, unless files took its place."""
    elsewhere = np.maximum(part.held.lines["elsewhere"].to_numpy(), 0)
    lost = per_line(part.held.lines, missing) - elsewhere
    if (lost > 0).any():
        raise ReplacementError(
            f"partition {part.scope.partition}: {lost[lost > 0].sum()} messages are neither rows "
            "nor rejects nor repeats; `reprocess verify --repair` shows where and mends it"
        )


def _check_ledger(part: Pass, old: Places) -> None:
    scope = part.scope
    if scope.merchant_id is not None:
        return
    wrong = lines_that_differ(part.held.lines, scope.window, old)
    if not wrong.is_empty():
        first = wrong.row(0, named=True)
        raise ReplacementError(
            f"partition {scope.partition}, offsets {first['start_offset']} to "
            f"{first['end_offset'] - 1}: the ledger says {first['event_rows']} rows, the table "
            f"holds {first['held']}; `reprocess verify --repair` shows where and mends it"
        )


def _offsets_of(outcome: Outcome) -> Places:
    frames = (outcome.rows, outcome.rejects, outcome.repeated)
    return np.concatenate([places_of(frame) for frame in frames])


async def _count_orders_once(
    connection: Connection, scope: Scope, old: Places, outcome: Outcome
) -> tuple[Outcome, Verdict]:
    """Lay out the new rows, each order's first purchase in the log alone counted."""
    partition = scope.partition
    purchases = outcome.rows.filter(pl.col("event") == "purchase").sort("log_offset")
    new: dict[Order, list[Claim]] = {}
    for row in purchases.select("merchant_id", "order_id", "log_offset", "ts").iter_rows():
        new.setdefault((row[0], row[1]), []).append(Claim(row[2], row[3]))
    held = await orders.old_purchases(connection)
    firsts = await orders.firsts_of(connection, [*held, *new])
    inside = {order: firsts[order] for order in held if firsts.get(order) in held[order]}
    lost = [order for order, claim in inside.items() if new.get(order, [None])[0] != claim]
    others = await orders.others_of(connection, partition, lost, old.tolist())
    verdict = orders.decide(inside, new, firsts, others)
    if verdict.uncounted:
        again = purchases.filter(pl.col("log_offset").is_in(verdict.uncounted))
        rows, items = uncounted(outcome.rows, again), uncounted(outcome.items, again)
        outcome = Outcome(rows, items, outcome.rejects, outcome.repeated)
    await replacement.lay_new(connection, outcome.rows, outcome.items)
    for claim, counted in verdict.elsewhere:
        place = Place(partition, claim.ts, claim.ts + _MOMENT)
        await replacement.recount_order(connection, place, claim.offset, counted)
    return outcome, verdict


async def _replace_what_is_not_counted(
    connection: Connection, topic_id: str, partition: int, beside: Beside
) -> None:
    if not beside.same_rejects:
        old = places_of(beside.rejects).tolist()
        new = beside.outcome.rejects
        await replacement.replace_rejects(connection, topic_id, partition, old, new)
    if not beside.same_repeats:
        old = places_of(beside.repeats).tolist()
        await replacement.replace_repeats(connection, partition, old, beside.outcome.repeated)


def _not_among(offsets: Places, known: Places) -> Places:
    return offsets[~np.isin(offsets, known)]


def _among(frame: pl.DataFrame, offsets: Places) -> pl.DataFrame:
    mask = np.isin(places_of(frame), offsets)
    return frame.filter(pl.Series(mask)).sort("log_offset")
