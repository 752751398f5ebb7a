"""One pass within the transaction of a slice: what messages become, in the place of what stands."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

import numpy as np
import polars as pl

from db import history, measures, orders, replacement
from db.history import Held, Offsets, Place
from db.ledger import note_days
from db.orders import Claim, Order
from db.pools import Connection
from db.replacement import ReplacementError
from db.runs import Done
from ingester.batch import Outcome
from ingester.load import days_of, uncounted
from reprocess.deltas import Places, deltas_of, lines_that_differ, places_of
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
    lines: pl.DataFrame
    held: Held
    recounted: Recounted


async def swap(connection: Connection, work: Work, part: Pass, outcome: Outcome) -> Done:
    """Put an outcome in the place of what the tables hold of a pass.

    Raises:
        ReplacementError: the tables are not what the ledger says, or did not do as they were told.
    """
    run, scope = work.run, part.scope
    await replacement.clear(connection)
    events = await _take_old(connection, work, part, outcome)
    before = {
        "events": events,
        "items": np.asarray(await replacement.old_items(connection), np.int64),
    }
    outcome = await _count_orders_once(connection, scope, events, outcome)
    changes = await replacement.compare(connection)
    sums = await measures.beside(connection)
    await measures.note_changes(connection, run.run_id, scope.partition, scope.start)
    work.reach("after_compare")
    await replacement.delete_old(connection, scope.partition, changes)
    work.reach("after_delete")
    await replacement.insert_new(connection, changes)
    work.reach("after_insert")
    before |= await _replace_what_is_not_counted(connection, work, part, events, outcome)
    deltas = deltas_of(part.lines, before, outcome)
    await history.adjust_lines(connection, run.topic_id, scope.partition, deltas)
    await note_days(connection, days_of(outcome.rows), run.logic_version)
    return Done(part.recounted.messages, changes, sums)


async def _take_old(connection: Connection, work: Work, part: Pass, outcome: Outcome) -> Places:
    """Lay out the old rows: those within the window, and those of messages that come into it."""
    scope = part.scope
    place = Place(scope.partition, *scope.window, scope.merchant_id, *part.offsets)
    old = np.asarray(await replacement.take_old(connection, place), np.int64)
    if not work.mend:
        _check_ledger(part, old)
    known = [old, places_of(part.held.rejects), places_of(part.held.repeats)]
    moved = np.setdiff1d(_offsets_of(outcome), np.concatenate(known))
    if moved.size == 0 or part.lines.is_empty():
        return old
    low = cast("datetime", part.lines["first_ts"].min())
    high = cast("datetime", part.lines["last_ts"].max())
    elsewhere = Place(scope.partition, low, high + _MOMENT)
    both = await replacement.take_old(connection, elsewhere, moved.tolist())
    missing = old.size + moved.size - len(both)
    if missing and not work.mend:
        raise ReplacementError(
            f"partition {scope.partition}: {missing} messages are neither rows nor rejects nor "
            "repeats; `reprocess verify --repair` shows where and mends it"
        )
    return np.asarray(both, np.int64)


def _check_ledger(part: Pass, old: Places) -> None:
    scope = part.scope
    if scope.merchant_id is not None:
        return
    wrong = lines_that_differ(part.lines, scope.window, old)
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
) -> Outcome:
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
    await orders.keep(connection, partition, verdict)
    return outcome


async def _replace_what_is_not_counted(
    connection: Connection, work: Work, part: Pass, events: Places, outcome: Outcome
) -> dict[str, Places]:
    """Rejects and repeats; the offsets at which old ones stood."""
    topic_id, partition = work.run.topic_id, part.scope.partition
    meant = np.concatenate([part.scope.held, events, _offsets_of(outcome)])
    rejects = _among(part.held.rejects, meant)
    if not rejects.select(_REJECT).equals(outcome.rejects.sort("log_offset").select(_REJECT)):
        await replacement.replace_rejects(
            connection, topic_id, partition, places_of(rejects).tolist(), outcome.rejects
        )
    repeats = _among(part.held.repeats, meant)
    if not repeats.select(_REPEAT).equals(outcome.repeated.sort("log_offset").select(_REPEAT)):
        await replacement.replace_repeats(
            connection, partition, places_of(repeats).tolist(), outcome.repeated
        )
    return {"rejects": places_of(rejects), "repeats": places_of(repeats)}


def _among(frame: pl.DataFrame, offsets: Places) -> pl.DataFrame:
    mask = np.isin(places_of(frame), offsets)
    return frame.filter(pl.Series(mask)).sort("log_offset")
