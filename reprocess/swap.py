"""One pass within the transaction of a slice: what messages become, in the place of what stands."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from db import history, measures, orders, replacement, standing
from db.history import Place
from db.ledger import note_days
from db.orders import Claim, Order, Verdict
from db.pools import Connection
from db.replacement import ReplacementError
from db.runs import Done
from db.standing import EVENT_SCHEMA, ITEM_SCHEMA, Rows
from ingester.batch import Outcome
from ingester.load import days_of, uncounted
from reprocess.compare import Difference, compare
from reprocess.deltas import Places, deltas_of, lines_that_differ, not_among, per_line, places_of
from reprocess.look import Found, times_of
from reprocess.ranges import standing_at
from reprocess.recount import Scope
from reprocess.sums import beside, by_day
from reprocess.work import Work

MOST: Final = 0.75  # where more of the rows differ, to write the others anew is cheaper, too
_MOMENT: Final = timedelta(microseconds=1)
_REPEAT: Final = ["log_offset", "ts", "merchant_id"]
_REJECT: Final = ["log_offset", "ts", "reason", "field", "detail"]


@dataclass(frozen=True, slots=True)
class Beside:
    """Old rows and new ones, side by side."""

    outcome: Outcome  # with orders counted once
    old: Rows  # of these messages
    beyond: Rows  # old rows that stand outside the window and are replaced with them
    new: Rows
    difference: Difference
    sums: pl.DataFrame  # as `reprocess.sums.beside` gives them
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


async def lay_beside(connection: Connection, work: Work, found: Found, outcome: Outcome) -> Beside:
    """Lay an outcome beside what the tables hold; nothing is written.

    Raises:
        ReplacementError: the tables are not what the ledger says.
    """
    if not work.mend:
        _check_ledger(found)
    came = await _moved_here(connection, work, found, outcome)
    old = found.old.with_more(came)
    outcome, verdict = await _count_orders_once(connection, found.scope, old.events, outcome)
    items = outcome.items.select(*ITEM_SCHEMA).sort("log_offset", "item_index")
    new = Rows(outcome.rows.select(*EVENT_SCHEMA), items)
    whole, beyond = old, came  # with rows elsewhere that change because of these
    for claim, counted in verdict.elsewhere:
        place = Place(found.scope.partition, claim.ts, claim.ts + _MOMENT)
        held = await standing.take(connection, place, [claim.offset])
        whole, beyond = whole.with_more(held), beyond.with_more(held)
        new = new.with_more(_counting(held, counted))
    difference, sums = await asyncio.to_thread(_compared, whole, new)
    meant = standing_at(np.concatenate([found.known, places_of(old.events), _offsets_of(outcome)]))
    return Beside(
        outcome,
        old,
        beyond,
        new,
        difference,
        sums,
        found.rejects.filter(meant(found.rejects)),
        found.repeats.filter(meant(found.repeats)),
        verdict,
    )


def _compared(old: Rows, new: Rows) -> tuple[Difference, pl.DataFrame]:
    return compare(old, new), beside(old.events, new.events)


def _counting(rows: Rows, counted: bool) -> Rows:
    mark = pl.lit(value=counted).alias("counted")
    return Rows(rows.events.with_columns(mark), rows.items.with_columns(mark))


async def swap(connection: Connection, work: Work, found: Found, outcome: Outcome) -> Done:
    """Put an outcome in the place of what the tables hold.

    Raises:
        ReplacementError: the tables are not what the ledger says, or did not do as they were told.
    """
    run, scope = work.run, found.scope
    laid = await lay_beside(connection, work, found, outcome)
    differs = laid.sums.filter(pl.col("before") != pl.col("after"))
    await measures.keep_changes(connection, run.run_id, scope.partition, scope.start, differs)
    work.reach("after_compare")
    made = await _delete(connection, found, laid)
    work.reach("after_delete")
    await replacement.insert(connection, made)
    work.reach("after_insert")
    await orders.keep(connection, scope.partition, laid.verdict)
    await _replace_what_is_not_counted(connection, run.topic_id, scope.partition, laid)
    before = {
        "events": places_of(laid.old.events),
        "items": places_of(laid.old.items),
        "rejects": places_of(laid.rejects),
        "repeats": places_of(laid.repeats),
    }
    deltas = deltas_of(found.lines, before, laid.outcome)
    await history.adjust_lines(connection, run.topic_id, scope.partition, deltas)
    if work.mend:
        # What was lost or doubled was never counted off the ledger: its lines are counted anew.
        await history.recount_lines(connection, run.topic_id, scope.partition, found.lines)
    await note_days(connection, days_of(laid.outcome.rows), run.logic_version)
    return Done(found.recounted.messages, laid.difference.changes, by_day(laid.sums))


async def _delete(connection: Connection, found: Found, laid: Beside) -> Rows:
    """Delete what differs; the rows to write in its place."""
    sides = (laid.difference.gone, laid.difference.made, found.old, laid.beyond, laid.new)
    written = {}
    for table in laid.old.by_table:
        gone, made, standing_there, beyond, new = (side.by_table[table] for side in sides)
        if gone.height > MOST * standing_there.height:
            await replacement.clear(connection, found.place, table, standing_there)
            gone, made = beyond, new
        await replacement.delete(connection, found.scope.partition, table, gone)
        written[table] = made
    return Rows(written["events"], written["event_items"])


async def _moved_here(connection: Connection, work: Work, found: Found, outcome: Outcome) -> Rows:
    """The old rows of messages that come into the window."""
    known = [places_of(frame) for frame in (found.old.events, found.rejects, found.repeats)]
    moved = not_among(_offsets_of(outcome), np.concatenate(known))
    if moved.size == 0:
        return Rows(found.old.events.clear(), found.old.items.clear())
    elsewhere = Place(found.scope.partition, *times_of(work, found.scope, found.lines))
    came = await standing.take(connection, elsewhere, moved.tolist())
    if not work.mend:
        _check_missing(found, not_among(moved, places_of(came.events)))
    # Items that lost their event stand in the window, and were found there.
    return Rows(came.events, came.items.filter(~found.scope.holds(came.items)))


def _check_missing(found: Found, missing: Places) -> None:
    """A message that the ledger counts must stand somewhere, unless files took its place."""
    elsewhere = np.maximum(found.lines["elsewhere"].to_numpy(), 0)
    lost = per_line(found.lines, missing) - elsewhere
    if (lost > 0).any():
        raise ReplacementError(
            f"partition {found.scope.partition}: {lost[lost > 0].sum()} messages are neither rows "
            "nor rejects nor repeats; `reprocess verify --repair` shows where and mends it"
        )


def _check_ledger(found: Found) -> None:
    scope = found.scope
    if scope.merchant_id is not None:
        return
    wrong = lines_that_differ(found.lines, scope.window, places_of(found.old.events))
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
    connection: Connection, scope: Scope, old: pl.DataFrame, outcome: Outcome
) -> tuple[Outcome, Verdict]:
    """One purchase of each order counts: `db.orders` says which."""
    purchases = outcome.rows.filter(pl.col("event") == "purchase").sort("log_offset")
    held, new = _claims(old), _claims(purchases)
    firsts = await orders.firsts_of(connection, [*held, *new])
    inside = {order: firsts[order] for order in held if firsts.get(order) in held[order]}
    lost = [order for order, claim in inside.items() if _is_lost(claim, new.get(order, []))]
    others = await orders.others_of(connection, scope.partition, lost, places_of(old).tolist())
    verdict = orders.decide(inside, new, firsts, others)
    if verdict.uncounted:
        again = purchases.filter(pl.col("log_offset").is_in(verdict.uncounted))
        rows, items = uncounted(outcome.rows, again), uncounted(outcome.items, again)
        outcome = Outcome(rows, items, outcome.rejects, outcome.repeated)
    return outcome, verdict


def _is_lost(first: Claim, claims: list[Claim]) -> bool:
    """Whether the purchase that counted is no longer surely the best of its order."""
    winner = orders.best(claims)
    return winner != first or winner is None or winner.precedence > first.precedence


def _claims(events: pl.DataFrame) -> dict[Order, list[Claim]]:
    """The purchases among events, those of an order in the events' order."""
    with_order = (pl.col("event") == "purchase") & pl.col("order_id").is_not_null()
    found: dict[Order, list[Claim]] = {}
    columns = ("merchant_id", "order_id", "log_offset", "ts", orders.PRECEDENCE)
    for merchant, order, *claim in events.filter(with_order).select(columns).iter_rows():
        found.setdefault((merchant, order), []).append(Claim(*claim))
    return found


async def _replace_what_is_not_counted(
    connection: Connection, topic_id: str, partition: int, laid: Beside
) -> None:
    if not laid.same_rejects:
        old = places_of(laid.rejects).tolist()
        new = laid.outcome.rejects
        await replacement.replace_rejects(connection, topic_id, partition, old, new)
    if not laid.same_repeats:
        old = places_of(laid.repeats).tolist()
        await replacement.replace_repeats(connection, partition, old, laid.outcome.repeated)
