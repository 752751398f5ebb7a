"""Whether the ledger covers the log without gaps, and says how many rows the tables hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import asyncpg
import polars as pl

from db import history, ledger
from db.history import COUNTED, Offsets
from db.ledger import LedgerLine
from db.pools import transaction

# An offset that no line covers; one that several do; a line that counts other rows than the tables
# hold; the next offset of the partition, which is before the ledger's end.
Kind = Literal["gap", "overlap", "counts", "offset"]

EVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_SEAMS: Final = """
SELECT before, start_offset
  FROM (SELECT start_offset, max(end_offset) OVER (
               ORDER BY start_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
          FROM ingest_batch WHERE topic_id = $1 AND kafka_partition = $2) AS line
 WHERE before <> start_offset ORDER BY start_offset
"""
_ENDS: Final = """
SELECT (SELECT next_offset FROM ingest_offset
         WHERE topic = $1 AND topic_id = $2 AND kafka_partition = $3 AND moved_to IS NULL),
       min(start_offset), max(end_offset)
  FROM ingest_batch WHERE topic_id = $2 AND kafka_partition = $3
"""
_LINES: Final = """
SELECT array_agg(start_offset ORDER BY start_offset) AS starts,
       array_agg(end_offset ORDER BY start_offset) AS ends,
       min(first_ts) AS first, max(last_ts) AS last
  FROM ingest_batch
 WHERE topic_id = $1 AND kafka_partition = $2 AND first_ts < $4 AND last_ts >= $3
"""
_COUNTS: Final = f"""
SELECT line.start_offset, line.end_offset,
       (line.event_rows, line.item_rows, line.rejects, line.duplicates)::text AS says,
       (coalesce(events.n, 0), coalesce(items.n, 0), coalesce(rejects.n, 0),
        coalesce(repeats.n, 0))::text AS holds
  FROM ingest_batch AS line
  JOIN unnest($3::int8[]) AS asked (start_offset) USING (start_offset) {COUNTED}
 WHERE line.topic_id = $1 AND line.kafka_partition = $2
   AND (line.event_rows, line.item_rows, line.rejects, line.duplicates) IS DISTINCT FROM
       (coalesce(events.n, 0), coalesce(items.n, 0), coalesce(rejects.n, 0),
        coalesce(repeats.n, 0))
 ORDER BY line.start_offset
"""
_ADVANCE: Final = """
UPDATE ingest_offset SET next_offset = $3
 WHERE topic = $1 AND kafka_partition = $2 AND next_offset < $3 AND moved_to IS NULL
"""


@dataclass(frozen=True, slots=True)
class LogPart:
    """A partition of a topic, and the first offset that the log still holds of it, from which on
    the ledger must cover all."""

    topic: str
    topic_id: str
    partition: int
    start: int


@dataclass(frozen=True, slots=True)
class LedgerDiffers:
    """A part of a partition's ledger that is wrong: half-open offsets."""

    partition: int
    kind: Kind
    start: int
    end: int
    detail: str


async def audit(
    pool: asyncpg.Pool, log: LogPart, window: tuple[datetime, datetime]
) -> list[LedgerDiffers]:
    """What is wrong with a partition's ledger: its offsets as a whole, its counts in a window."""
    topic_id, partition, log_start = log.topic_id, log.partition, log.start
    row = await pool.fetchrow(_ENDS, log.topic, topic_id, partition)
    assert row is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    next_offset, first, end = row
    if next_offset is None:
        return []  # it lives in another shard, or was never read
    seams = await pool.fetch(_SEAMS, topic_id, partition)
    return [
        *_holes(partition, (first, end), next_offset, log_start),
        *(_seam(partition, each["before"], each["start_offset"]) for each in seams),
        *await _miscounted(pool, topic_id, partition, window),
    ]


def _holes(
    partition: int, covered: tuple[int | None, int | None], next_offset: int, log_start: int
) -> list[LedgerDiffers]:
    first, end = covered
    if first is None or end is None:
        empty = next_offset <= log_start
        return [] if empty else [_gap(partition, log_start, next_offset)]
    found = []
    if first > log_start:
        found.append(_gap(partition, log_start, first))
    if next_offset > end:
        found.append(_gap(partition, end, next_offset))
    if next_offset < end:
        detail = f"the next offset is {next_offset}, the ledger ends at {end}"
        found.append(LedgerDiffers(partition, "offset", next_offset, end, detail))
    return found


def _seam(partition: int, before: int, start: int) -> LedgerDiffers:
    if before < start:
        return _gap(partition, before, start)
    return LedgerDiffers(partition, "overlap", start, before, "covered by several lines")


def _gap(partition: int, start: int, end: int) -> LedgerDiffers:
    return LedgerDiffers(partition, "gap", start, end, "covered by no line of the ledger")


async def _miscounted(
    pool: asyncpg.Pool, topic_id: str, partition: int, window: tuple[datetime, datetime]
) -> list[LedgerDiffers]:
    lines = await pool.fetchrow(_LINES, topic_id, partition, *window)
    if lines is None or not lines["starts"]:
        return []
    values = (lines["starts"], lines["ends"], lines["first"], lines["last"])
    rows = await pool.fetch(_COUNTS, topic_id, partition, *values)
    return [
        LedgerDiffers(
            partition,
            "counts",
            row["start_offset"],
            row["end_offset"],
            f"(events, items, rejects, duplicates): the ledger counts {row['says']}, the tables "
            f"hold {row['holds']}",
        )
        for row in rows
    ]


async def recount(
    pool: asyncpg.Pool, topic: str, topic_id: str, partition: int, lines: Sequence[Offsets]
) -> None:
    """Let lines of the ledger count what the tables hold."""
    async with transaction(pool) as connection:
        await history.take_fence(connection, topic, partition)
        known = await history.lines_of(
            connection, topic_id, partition, EVER, (lines[0][0], lines[-1][1])
        )
        wanted = known.filter(pl.col("start_offset").is_in([start for start, _ in lines]))
        await history.recount_lines(connection, topic_id, partition, wanted)


async def add_lines(
    pool: asyncpg.Pool, topic: str, topic_id: str, lines: Sequence[LedgerLine], logic_version: int
) -> None:
    """Add lines for offsets that none covers, counting what the tables hold of them."""
    partition = lines[0].span.partition
    async with transaction(pool) as connection:
        await history.take_fence(connection, topic, partition)
        await ledger.record(connection, topic_id, lines, logic_version)
        offsets = (lines[0].span.start, lines[-1].span.end)
        known = await history.lines_of(connection, topic_id, partition, EVER, offsets)
        await history.recount_lines(connection, topic_id, partition, known)


async def advance(pool: asyncpg.Pool, topic: str, partition: int, to: int) -> None:
    """Let a partition be read on from the ledger's end, unless it has come further."""
    await pool.execute(_ADVANCE, topic, partition, to)
