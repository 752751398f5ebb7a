"""Runs of reprocessing and their slices, as the shard keeps them: what a resume goes on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import asyncpg

from db.measures import Sum, added
from db.pools import Connection, transaction
from db.windows import Window, merged

SliceState = Literal["pending", "held", "replaced", "done", "cancelled"]

_OVERLAP: Final = """
SELECT run_id::text, kafka_partition, window_start, window_end
  FROM reprocess_slice WHERE state IN ('pending', 'held', 'replaced')
   AND kafka_partition = ANY ($1) AND window_start < $3 AND window_end > $2 LIMIT 1
"""
_CREATE_RUN: Final = """
INSERT INTO reprocess_run (run_id, topic, topic_id, window_start, window_end, merchant_id,
       logic_version, max_change, misplaced, sources, started_by, reason, state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'running')
"""
_CREATE_SLICES: Final = """
INSERT INTO reprocess_slice (run_id, kafka_partition, window_start, window_end, state)
VALUES ($1, $2, $3, $4, 'pending')
"""
_REPLACED: Final = """
UPDATE reprocess_slice
   SET state = 'replaced', messages = $4, rows_before = $5, rows_after = $6, rows_changed = $7,
       columns_changed = $8, sums = $9, changed = $10, detail = $11, replaced_at = now(),
       logic_before = (SELECT min(logic_version) FROM processed_day AS day
                        WHERE day.kafka_partition = $2
                          AND day.day >= (window_start AT TIME ZONE 'UTC')::date
                          AND day.day < (window_end AT TIME ZONE 'UTC')::date
                                        + (window_end > date_trunc('day', window_end, 'UTC'))::int)
 WHERE run_id = $1 AND kafka_partition = $2 AND window_start = $3 AND state IN ('pending', 'held')
RETURNING state
"""
_DONE: Final = """
UPDATE reprocess_slice SET state = 'done', done_at = now()
 WHERE run_id = $1 AND kafka_partition = $2 AND window_start = $3 AND state = 'replaced'
"""
_HELD: Final = """
UPDATE reprocess_slice SET state = 'held', detail = $4
 WHERE run_id = $1 AND kafka_partition = $2 AND window_start = $3 AND state IN ('pending', 'held')
"""
# Days that the run replaced as a whole are of its logic, unless an older ingester wrote meanwhile.
_LOGIC_OF_DAYS: Final = """
UPDATE processed_day AS held SET logic_version = run.logic_version
  FROM reprocess_run AS run
 WHERE run.run_id = $1 AND run.merchant_id IS NULL
   AND held.logic_version < run.logic_version
   AND held.day::timestamp AT TIME ZONE 'UTC' >= run.window_start
   AND (held.day + 1)::timestamp AT TIME ZONE 'UTC' <= run.window_end
   AND EXISTS (SELECT FROM reprocess_slice AS slice
                WHERE slice.run_id = $1 AND slice.kafka_partition = held.kafka_partition
                  AND slice.window_start < (held.day + 1)::timestamp AT TIME ZONE 'UTC'
                  AND slice.window_end > held.day::timestamp AT TIME ZONE 'UTC')
   AND NOT EXISTS (SELECT FROM ingest_batch AS batch
                    WHERE batch.kafka_partition = held.kafka_partition
                      AND batch.logic_version < run.logic_version
                      AND batch.committed_at > run.started_at
                      AND batch.min_ts < (held.day + 1)::timestamp AT TIME ZONE 'UTC'
                      AND batch.max_ts >= held.day::timestamp AT TIME ZONE 'UTC')
"""
_END: Final = """
UPDATE reprocess_run SET state = $2, ended_at = now()
 WHERE run_id = $1 AND state = 'running'
   AND NOT EXISTS (SELECT FROM reprocess_slice
                    WHERE run_id = $1 AND state IN ('pending', 'held', 'replaced'))
RETURNING run_id
"""
_CANCEL: Final = """
UPDATE reprocess_slice SET state = 'cancelled' WHERE run_id = $1 AND state IN ('pending', 'held')
"""


class OverlapError(Exception):
    """Another run has yet to finish some of the same slices."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for, by whom and why."""

    run_id: str
    topic: str
    topic_id: str
    window_start: datetime
    window_end: datetime
    merchant_id: int | None
    logic_version: int
    max_change: float | None
    misplaced: timedelta  # how far the old logic may have put events in time
    sources: tuple[str, ...]
    started_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Slice:
    """One partition and window of event time, replaced as one."""

    partition: int
    start: datetime
    end: datetime
    state: SliceState = "pending"


@dataclass(frozen=True, slots=True)
class Changes:
    """How new rows differ from those that stood."""

    before: int
    after: int
    changed: int  # events that differ, came or went
    columns: dict[str, int]  # column -> events in which it differs
    hours: list[Window]  # whole ones, UTC, that hold any of them

    def and_more(self, more: "Changes") -> "Changes":
        """Those of other messages of the same slice with them."""
        names = (*self.columns, *more.columns)
        return Changes(
            self.before + more.before,
            self.after + more.after,
            self.changed + more.changed,
            {name: self.columns.get(name, 0) + more.columns.get(name, 0) for name in names},
            merged([*self.hours, *more.hours]),
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What the replacement of a slice did."""

    messages: int
    changes: Changes
    sums: list[Sum]
    detail: str | None = None

    def and_more(self, more: "Done") -> "Done":
        """A later pass of the same slice with it."""
        messages = self.messages + more.messages
        return Done(messages, self.changes.and_more(more.changes), added(self.sums, more.sums))


async def create(connection: Connection, run: Run, slices: Sequence[Slice]) -> None:
    """Keep a run and its slices.

    Raises:
        OverlapError: another run has yet to finish some of these slices.
    """
    async with connection.transaction():
        await connection.execute("LOCK TABLE reprocess_run IN SHARE ROW EXCLUSIVE MODE")
        other = await connection.fetchrow(
            _OVERLAP, sorted({each.partition for each in slices}), run.window_start, run.window_end
        )
        if other is not None:
            raise OverlapError(
                f"run {other['run_id']} has yet to finish partition {other['kafka_partition']}, "
                f"{other['window_start']:%Y-%m-%d %H:%M} to {other['window_end']:%Y-%m-%d %H:%M}: "
                f"`reprocess resume {other['run_id']}`, or cancel it by `--cancel`"
            )
        await connection.execute(
            _CREATE_RUN,
            run.run_id,
            run.topic,
            run.topic_id,
            run.window_start,
            run.window_end,
            run.merchant_id,
            run.logic_version,
            run.max_change,
            run.misplaced,
            list(run.sources),
            run.started_by,
            run.reason,
        )
        await connection.executemany(
            _CREATE_SLICES, [(run.run_id, each.partition, each.start, each.end) for each in slices]
        )


async def find(pool: asyncpg.Pool, run_id: str) -> Run | None:
    """The run of that id, if this shard has a part of it."""
    row = await pool.fetchrow(
        "SELECT run_id::text, topic, topic_id, window_start, window_end, merchant_id, "
        "logic_version, max_change, misplaced, sources, started_by, reason "
        "FROM reprocess_run WHERE run_id = $1",
        run_id,
    )
    return None if row is None else Run(**{**row, "sources": tuple(row["sources"])})


async def unfinished(pool: asyncpg.Pool) -> list[str]:
    """Ids of runs that are not at their end, oldest first."""
    rows = await pool.fetch(
        "SELECT run_id::text FROM reprocess_run WHERE state = 'running' ORDER BY started_at"
    )
    return [row["run_id"] for row in rows]


async def slices_of(pool: asyncpg.Pool, run_id: str) -> list[Slice]:
    """All slices of a run, in order of partition and time."""
    rows = await pool.fetch(
        "SELECT kafka_partition, window_start, window_end, state FROM reprocess_slice "
        "WHERE run_id = $1 ORDER BY 1, 2",
        run_id,
    )
    return [Slice(*row) for row in rows]


async def mark_replaced(connection: Connection, run_id: str, part: Slice, done: Done) -> bool:
    """Within the replacement's transaction; False where another process has done this slice."""
    sums: dict[str, dict[str, list[int]]] = {}
    for each in done.sums:
        sums.setdefault(each.day.isoformat(), {})[each.measure] = [each.before, each.after]
    state = await connection.fetchval(
        _REPLACED,
        run_id,
        part.partition,
        part.start,
        done.messages,
        done.changes.before,
        done.changes.after,
        done.changes.changed,
        json.dumps(done.changes.columns),
        json.dumps(sums),
        [asyncpg.Range(*each) for each in done.changes.hours],
        done.detail,
    )
    return state is not None


async def changed_hours(pool: asyncpg.Pool, run_id: str, part: Slice) -> list[Window]:
    """The hours that the replacement of a slice changed."""
    found = await pool.fetchval(
        "SELECT changed FROM reprocess_slice "
        "WHERE run_id = $1 AND kafka_partition = $2 AND window_start = $3",
        run_id,
        part.partition,
        part.start,
    )
    return [(each.lower, each.upper) for each in found or []]


async def mark_done(pool: asyncpg.Pool, run_id: str, part: Slice) -> None:
    """Its rollups have followed: readers may use them again."""
    await pool.execute(_DONE, run_id, part.partition, part.start)


async def hold(pool: asyncpg.Pool, run_id: str, part: Slice, why: str) -> None:
    """Nothing was published; an operator decides."""
    await pool.execute(_HELD, run_id, part.partition, part.start, why)


async def end(pool: asyncpg.Pool, run_id: str, state: Literal["done", "cancelled"]) -> bool:
    """End a run none of whose slices is left; whether it ended now."""
    async with transaction(pool) as connection:
        ended = await connection.fetchval(_END, run_id, state)
        if ended is not None and state == "done":
            await connection.execute(_LOGIC_OF_DAYS, run_id)
    return ended is not None


async def cancel(pool: asyncpg.Pool, run_id: str) -> None:
    """Leave out what was not begun."""
    await pool.execute(_CANCEL, run_id)


async def set_max_change(pool: asyncpg.Pool, run_id: str, share: float | None) -> None:
    """What an operator allows after having looked."""
    await pool.execute("UPDATE reprocess_run SET max_change = $2 WHERE run_id = $1", run_id, share)
