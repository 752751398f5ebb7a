"""The fence and the ledger: what of the log is in the tables, and by which transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import asyncpg

from db.pools import Connection, borrowed

APPLIED_WITHIN_S: Final = 10.0

_FENCE: Final = """
UPDATE ingest_offset AS held
   SET next_offset = span.end_offset,
       applied_until = greatest(held.applied_until, span.logged_at)
  FROM unnest($2::int4[], $3::int8[], $4::int8[], $5::timestamptz[])
       AS span (kafka_partition, start_offset, end_offset, logged_at)
 WHERE held.topic_id = $1
   AND held.kafka_partition = span.kafka_partition
   AND held.next_offset = span.start_offset
   AND held.moved_to IS NOT DISTINCT FROM $6::int4
RETURNING held.kafka_partition
"""

_RECORD: Final = """
INSERT INTO ingest_batch (topic_id, kafka_partition, start_offset, end_offset, messages, event_rows,
       item_rows, rejects, duplicates, min_ts, max_ts, min_logged_at, max_logged_at, logic_version,
       first_ts, last_ts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""

# Writes only where a day is new or was processed by a newer logic.
_DAYS = """
INSERT INTO processed_day AS held (kafka_partition, day, logic_version)
SELECT kafka_partition, day, $3 FROM unnest($1::int4[], $2::date[]) AS made (kafka_partition, day)
    ON CONFLICT (kafka_partition, day) DO UPDATE SET logic_version = excluded.logic_version
 WHERE held.logic_version > excluded.logic_version
"""

_ADOPT: Final = """
INSERT INTO ingest_offset (topic, kafka_partition, topic_id, next_offset)
SELECT $1, kafka_partition, $2, low
  FROM unnest($3::int4[], $4::int8[]) AS born (kafka_partition, low)
    ON CONFLICT (topic, kafka_partition) DO NOTHING
"""

_HELD: Final = """
SELECT kafka_partition, topic_id, next_offset, moved_to FROM ingest_offset
 WHERE topic = $1 AND kafka_partition = ANY ($2::int4[])
"""

# What the log held at an instant is in the tables once the next offset has reached the log's end
# as it was then. No fence is needed: the comparison is with the row itself.
_APPLIED: Final = """
WITH seen AS (SELECT * FROM unnest($3::int4[], $4::int8[]) AS seen (kafka_partition, log_end)),
applied AS (
UPDATE ingest_offset AS held SET applied_until = greatest(held.applied_until, $1)
  FROM seen
 WHERE held.topic_id = $2
   AND held.kafka_partition = seen.kafka_partition
   AND held.next_offset >= seen.log_end
   AND held.moved_to IS NULL
)
SELECT kafka_partition, next_offset FROM ingest_offset JOIN seen USING (kafka_partition)
 WHERE topic_id = $2
"""


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets of one partition, half-open, and the log time of the last of them."""

    partition: int
    start: int
    end: int
    logged_at: datetime


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What one transaction did with one span."""

    span: Span
    messages: int
    event_rows: int
    item_rows: int
    rejects: int
    duplicates: int
    min_ts: datetime | None
    max_ts: datetime | None
    min_logged_at: datetime
    first_ts: datetime | None  # event time of rejects and repeats counts here too
    last_ts: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """Where a partition stands in a shard."""

    partition: int
    topic_id: str
    next_offset: int
    moved_to: int | None  # it lives in that shard, or is on its way there


async def move_fence(
    connection: Connection, topic_id: str, spans: Sequence[Span], lives_in: int | None = None
) -> set[int]:
    """Compare and swap each partition's next offset; the partitions that were ours to move.

    Args:
        lives_in: the shard in which the partitions live, where that is another: they are being
            copied from there.
    """
    rows = await connection.fetch(
        _FENCE,
        topic_id,
        [span.partition for span in spans],
        [span.start for span in spans],
        [span.end for span in spans],
        [span.logged_at for span in spans],
        lives_in,
    )
    return {row["kafka_partition"] for row in rows}


async def record(
    connection: Connection, topic_id: str, lines: Iterable[LedgerLine], logic_version: int
) -> None:
    """Write the ledger's lines."""
    await connection.executemany(
        _RECORD,
        [
            (
                topic_id,
                line.span.partition,
                line.span.start,
                line.span.end,
                line.messages,
                line.event_rows,
                line.item_rows,
                line.rejects,
                line.duplicates,
                line.min_ts,
                line.max_ts,
                line.min_logged_at,
                line.span.logged_at,
                logic_version,
                line.first_ts,
                line.last_ts,
            )
            for line in lines
        ],
    )


async def note_days(
    connection: Connection, days: Iterable[tuple[int, date]], logic_version: int
) -> None:
    """Note which logic made rows of these (partition, UTC day)s; the oldest one stands."""
    listed = sorted(days)
    await connection.execute(
        _DAYS, [partition for partition, _ in listed], [day for _, day in listed], logic_version
    )


async def held_offsets(
    pool: asyncpg.Pool, topic: str, topic_id: str, low: dict[int, int]
) -> list[Held]:
    """Where each partition stands; one that was never seen starts at the log's low end.

    Args:
        low: the log's first offset of each partition asked for.
    """
    async with borrowed(pool) as connection:
        await connection.execute(_ADOPT, topic, topic_id, list(low), list(low.values()))
        rows = await connection.fetch(_HELD, topic, list(low))
    return [Held(*row) for row in rows]


async def note_halt(pool: asyncpg.Pool, topic: str, partition: int, reason: str | None) -> None:
    """Keep why a partition is not read, where operators and the API see it; None clears it."""
    await pool.execute(
        "UPDATE ingest_offset SET halted_reason = $3 WHERE topic = $1 AND kafka_partition = $2",
        topic,
        partition,
        reason,
    )


async def note_applied(
    pool: asyncpg.Pool, topic_id: str, seen_at: datetime, log_ends: dict[int, int]
) -> dict[int, int]:
    """At `seen_at` the log ended at `log_ends`: partitions that have come so far are fresh.

    Returns:
        The next offset of each partition.
    """
    ends = (list(log_ends), list(log_ends.values()))
    rows = await pool.fetch(_APPLIED, seen_at, topic_id, *ends, timeout=APPLIED_WITHIN_S)
    return {row["kafka_partition"]: row["next_offset"] for row in rows}
