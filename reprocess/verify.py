"""Numbers proved against the log: rows recounted from it, rollups recounted from the rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import asyncpg

from db import audit, history
from db.audit import RollupDiffers, RollupFails
from db.errors import kind_of
from db.ledger_audit import LedgerDiffers
from db.orders import Order
from db.pools import borrowed
from db.refresh import coordinating, take_in
from db.rollups import BY_NAME, DAY, HOUR, ROLLUPS, Rollup
from db.runs import Slice
from db.windows import floor_to, merged
from reprocess.cascade import cascade
from reprocess.look import look, read
from reprocess.plan import Planned
from reprocess.proof import Proof, RowsDiffer, proof, rows_that_differ
from reprocess.replace import EVERYTHING, scope_of
from reprocess.source import Source
from reprocess.swap import lay_beside
from reprocess.work import Work

AGAIN: Final = 3  # a late event may arrive between a refresh and the look at its bucket


@dataclass(frozen=True, slots=True)
class Verified:
    """What one slice came to: the log's rows beside the table's."""

    shard: int
    slice: Slice
    messages: int
    log: Proof
    held: Proof
    rows: list[RowsDiffer]
    rejects_differ: bool
    repeats_differ: bool

    @property
    def agrees(self) -> bool:
        """Whether the tables are what the log says."""
        return self.differences == 0

    @property
    def differences(self) -> int:
        """How many rows differ; rejects count as one, and so do repeats."""
        rows = sum(each.differing for each in self.rows)
        return rows + self.rejects_differ + self.repeats_differ


@dataclass(slots=True)
class Report:
    """What a window came to."""

    slices: list[Verified] = field(default_factory=list)
    rollups: dict[int, list[RollupDiffers]] = field(default_factory=dict)  # by shard
    failing: dict[int, list[RollupFails]] = field(default_factory=dict)  # by shard
    ledger: dict[int, list[LedgerDiffers]] = field(default_factory=dict)  # by shard
    orders: dict[int, list[Order]] = field(default_factory=dict)  # by shard

    @property
    def agrees(self) -> bool:
        """Log, rows and rollups are one."""
        found = (self.rollups, self.failing, self.ledger, self.orders)
        rows = all(each.agrees for each in self.slices)
        return rows and not any(part for by_shard in found for part in by_shard.values())

    def differences(self, shard: int) -> int:
        """How many rows, rollup buckets, lines of the ledger and orders of a shard differ; a rollup
        that could not be compared counts as one."""
        rows = sum(each.differences for each in self.slices if each.shard == shard)
        found = (self.rollups, self.failing, self.ledger, self.orders)
        return rows + sum(len(by_shard.get(shard, ())) for by_shard in found)

    @property
    def uncovered(self) -> set[int]:
        """Partitions whose offsets the ledger does not cover once each: there a row may seem to
        have no message, although the log has it."""
        return {
            each.partition
            for found in self.ledger.values()
            for each in found
            if each.kind != "counts"
        }


async def verify_slice(
    pool: asyncpg.Pool, source: Source, work: Work, planned: Planned
) -> Verified:
    """Recount a slice from the log and compare; nothing is changed."""
    part, run = planned.slice, work.run
    scope = scope_of(work, part)
    offsets = (EVERYTHING[0], await history.next_offset(pool, run.topic, part.partition) or 0)
    again = await read(pool, source, work, scope, offsets)
    async with borrowed(pool) as connection:
        found = await look(connection, source, work, scope, offsets, was=again)
        outcome = found.recounted.settled(work.logic.dedupe_window)
        beside = await lay_beside(connection, replace(work, mend=True), found, outcome)
    return Verified(
        planned.shard,
        part,
        found.recounted.messages,
        proof(beside.new.events),
        proof(beside.old.events),
        rows_that_differ(beside.difference),
        not beside.same_rejects,
        not beside.same_repeats,
    )


async def verify_rollups(
    pool: asyncpg.Pool, window: tuple[datetime, datetime], merchants: Sequence[int] | None
) -> tuple[list[RollupDiffers], list[RollupFails]]:
    """Every rollup of a window against its source. What is merely late is taken in first; a bucket
    that differs is looked at again, for a late event may just have come.

    Returns:
        The buckets that differ, and the rollups that could not be compared.

    Raises:
        asyncpg.PostgresError, OSError: the shard does not answer.
    """
    wrong: list[RollupDiffers] = []
    failing: list[RollupFails] = []
    for rollup in ROLLUPS:
        try:
            wrong += await _differing(pool, rollup, window, merchants)
        except asyncpg.PostgresError as error:
            if kind_of(error) == "transient":
                raise
            failing.append(RollupFails(rollup.name, f"{type(error).__name__}: {error}"))
    return wrong, failing


async def _differing(
    pool: asyncpg.Pool,
    rollup: Rollup,
    window: tuple[datetime, datetime],
    merchants: Sequence[int] | None,
) -> list[RollupDiffers]:
    found = await _looked_at(pool, rollup, outward(rollup, window), merchants)
    for _ in range(AGAIN):
        if not found:
            break
        buckets = [each.bucket for each in found]
        again = (min(buckets), max(buckets) + rollup.bucket)
        found = await _looked_at(pool, rollup, again, sorted({f.merchant_id for f in found}))
    return found


async def _looked_at(
    pool: asyncpg.Pool,
    rollup: Rollup,
    window: tuple[datetime, datetime],
    merchants: Sequence[int] | None,
) -> list[RollupDiffers]:
    async with coordinating(pool) as connection:
        await take_in(connection, patient=True)
        return await audit.rollup_differs(connection, rollup, window, merchants)


def outward(rollup: Rollup, window: tuple[datetime, datetime]) -> tuple[datetime, datetime]:
    """The window in whole buckets of the rollup."""
    start, end = floor_to(rollup.bucket, window[0]), floor_to(rollup.bucket, window[1])
    return start, end if end == window[1] else end + rollup.bucket


async def repair_rollups(pool: asyncpg.Pool, wrong: Sequence[RollupDiffers]) -> int:
    """Make exactly the buckets that differ again, and what is made of them."""
    hours = []
    for each in wrong:
        length = HOUR if BY_NAME[each.rollup].bucket == HOUR else DAY
        start = each.bucket.astimezone(UTC)
        hours.append((start, start + length))
    return await cascade(pool, merged(hours))
