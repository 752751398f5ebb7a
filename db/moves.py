"""Moving a partition: what the catalogue keeps of it, and the offset rows on either side.

A partition lives in the shard whose offset row has no `moved_to`; any other row of it names the
shard where it lives, and live ingest leaves such rows be. While a partition is copied its row in
the new shard names the old one. The switch names the new shard in the old one's row (from there on
it stands still), clears the new one's once it has come as far, and turns the map last: at every
instant one shard at the most takes live events.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import asyncpg

from db.pools import borrowed, transaction

State = Literal["copying", "switched", "dropped", "cancelling", "cancelled"]

_KEY: Final = 0x4D6F7665  # advisory lock key
_PATIENCE_S: Final = 900.0

_OPEN: Final = """
SELECT kafka_partition, from_shard, to_shard, state, started_at FROM shard_move
 WHERE ended_at IS NULL ORDER BY kafka_partition
"""
_BEGIN: Final = """
INSERT INTO shard_move (kafka_partition, from_shard, to_shard, state)
SELECT kafka_partition, shard, $2, 'copying' FROM shard_map WHERE kafka_partition = $1
RETURNING kafka_partition, from_shard, to_shard, state, started_at
"""
_MARK: Final = """
UPDATE shard_move
   SET state = $3, ended_at = CASE WHEN $3 IN ('dropped', 'cancelled') THEN now() END
 WHERE kafka_partition = $1 AND started_at = $2
"""
_TURN: Final = """
WITH switched AS (UPDATE shard_move SET state = 'switched', switched_at = now()
                   WHERE kafka_partition = $1 AND started_at = $2 AND state = 'copying'
               RETURNING kafka_partition, to_shard)
UPDATE shard_map SET shard = switched.to_shard
  FROM switched WHERE shard_map.kafka_partition = switched.kafka_partition
"""
_SINCE_SWITCH: Final = """
SELECT extract(epoch FROM now() - switched_at)::float8 FROM shard_move
 WHERE kafka_partition = $1 AND started_at = $2
"""
# A row that bears the mark is right as it stands while the move that set it has not turned the map;
# on a server that follows its primary from afar it may be an old one. A row may be missing only
# where no move ever brought the partition.
_LIVES: Final = """
SELECT EXISTS (SELECT FROM shard_map WHERE kafka_partition = $1 AND shard = $2)
   AND CASE WHEN $3
            THEN EXISTS (SELECT FROM shard_move
                          WHERE kafka_partition = $1 AND from_shard = $2 AND ended_at IS NULL
                            AND state IN ('copying', 'cancelling'))
            ELSE NOT EXISTS (SELECT FROM shard_move
                              WHERE kafka_partition = $1 AND to_shard = $2
                                AND switched_at IS NOT NULL)
       END
"""
_STANDING: Final = """
SELECT topic_id, next_offset, applied_until, halted_reason, moved_to FROM ingest_offset
 WHERE topic = $1 AND kafka_partition = $2
"""
_COVERED: Final = """
SELECT min(start_offset) AS first, max(end_offset) AS last,
       coalesce(sum(messages), 0)::int8 AS messages,
       coalesce(sum(event_rows), 0)::int8 AS event_rows,
       coalesce(array_agg(DISTINCT topic_id), '{}') AS topic_ids
  FROM ingest_batch WHERE kafka_partition = $1
"""
_FROM_FILES: Final = """
SELECT EXISTS (SELECT FROM events WHERE kafka_partition = $1 AND log_offset < 0)
"""
_REPLACING: Final = """
SELECT run_id::text FROM reprocess_slice
 WHERE kafka_partition = $1 AND state IN ('pending', 'held', 'replaced') LIMIT 1
"""
_OFFER: Final = """
INSERT INTO ingest_offset (topic, kafka_partition, topic_id, next_offset, moved_to)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (topic, kafka_partition) DO NOTHING
"""
_RESUME_AT: Final = """
UPDATE ingest_offset
   SET topic_id = $3, next_offset = $4, moved_to = $5, applied_until = NULL, halted_reason = NULL
 WHERE topic = $1 AND kafka_partition = $2 AND moved_to IS NOT NULL
RETURNING next_offset
"""
_POINT: Final = """
UPDATE ingest_offset SET moved_to = $3 WHERE topic = $1 AND kafka_partition = $2
RETURNING next_offset
"""
_RELEASE: Final = """
UPDATE ingest_offset
   SET moved_to = NULL, applied_until = greatest(applied_until, $3)
 WHERE topic = $1 AND kafka_partition = $2 AND next_offset >= $4
RETURNING next_offset
"""


@dataclass(frozen=True, slots=True)
class Move:
    """A move that is not at its end."""

    partition: int
    source: int  # shard numbers
    target: int
    state: State
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A partition's offset row in one shard."""

    topic_id: str
    next_offset: int
    applied_until: datetime | None
    halted_reason: str | None
    moved_to: int | None


@dataclass(frozen=True, slots=True)
class Covered:
    """What a shard's ledger holds of a partition; the offsets are None where it holds nothing."""

    first: int | None
    last: int | None
    messages: int
    event_rows: int
    topic_ids: list[str]


class MoveError(Exception):
    """The partition cannot be moved, or not so; the sentence says why and what to do."""


@asynccontextmanager
async def alone(catalogue: asyncpg.Pool, partition: int) -> AsyncIterator[None]:
    """While no other process moves the partition. It guards no row: the fences do.

    Raises:
        MoveError: another does.
    """
    async with borrowed(catalogue) as connection:
        taken = "SELECT pg_try_advisory_lock($1, $2)"
        if not await connection.fetchval(taken, _KEY, partition):
            raise MoveError(f"another process is moving partition {partition} right now")
        yield
        # An error ends the session, and with it the lock.
        await connection.execute("SELECT pg_advisory_unlock($1, $2)", _KEY, partition)


async def open_moves(catalogue: asyncpg.Pool) -> dict[int, Move]:
    """Every move that is not at its end, by partition."""
    return {row["kafka_partition"]: Move(*row) for row in await catalogue.fetch(_OPEN)}


async def begin(catalogue: asyncpg.Pool, partition: int, target: int) -> Move:
    """Keep that a move has begun.

    Raises:
        MoveError: another has, meanwhile.
    """
    try:
        row = await catalogue.fetchrow(_BEGIN, partition, target)
    except asyncpg.UniqueViolationError as error:
        raise MoveError(f"partition {partition} is being moved by another already") from error
    if row is None:
        raise MoveError(f"the shard map has no partition {partition}")
    return Move(*row)


async def lives_in(catalogue: asyncpg.Pool, partition: int, shard: int, *, marked: bool) -> bool:
    """Whether what a shard tells of a partition is right, though its row is not that of a partition
    that lives there.

    Args:
        marked: the row names another shard; else there is none.
    """
    return bool(await catalogue.fetchval(_LIVES, partition, shard, marked))


async def mark(catalogue: asyncpg.Pool, move: Move, state: State) -> None:
    """Keep how far a move has come."""
    await catalogue.execute(_MARK, move.partition, move.started_at, state)


async def turn_map(catalogue: asyncpg.Pool, move: Move) -> None:
    """From here on everyone asks the new shard and writes to it.

    Raises:
        MoveError: the move was called off, or another process has turned it.
    """
    if await catalogue.execute(_TURN, move.partition, move.started_at) != "UPDATE 1":
        raise MoveError(f"another process ended this move of partition {move.partition}")


async def seconds_since_switch(catalogue: asyncpg.Pool, move: Move) -> float:
    """By the catalogue's clock."""
    found = await catalogue.fetchval(_SINCE_SWITCH, move.partition, move.started_at)
    return float(found or 0.0)


async def standing(pool: asyncpg.Pool, topic: str, partition: int) -> Standing | None:
    """Where a partition stands in a shard; None where the shard has never seen it."""
    row = await pool.fetchrow(_STANDING, topic, partition)
    return None if row is None else Standing(*row)


async def covered(pool: asyncpg.Pool, partition: int) -> Covered:
    """What a shard's ledger holds of a partition."""
    row = await pool.fetchrow(_COVERED, partition, timeout=_PATIENCE_S)
    assert row is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return Covered(*row)


async def has_rows_from_files(pool: asyncpg.Pool, partition: int) -> bool:
    """Whether rows of a partition came from elsewhere than the log; looks through all of them."""
    return bool(await pool.fetchval(_FROM_FILES, partition, timeout=_PATIENCE_S))


async def replacing_run(pool: asyncpg.Pool, partition: int) -> str | None:
    """A reprocess run that has yet to finish some of a partition."""
    found: str | None = await pool.fetchval(_REPLACING, partition)
    return found


async def open_target(pool: asyncpg.Pool, topic: str, move: Move, topic_id: str, first: int) -> int:
    """Make the new shard's row ready to be copied to; the offset to go on from.

    That is where its ledger ends, or `first` where it holds nothing: a row that an earlier move
    left there starts afresh, one that this move has filled goes on.

    Raises:
        MoveError: the partition lives there already.
    """
    async with transaction(pool) as connection:
        await connection.execute(_OFFER, topic, move.partition, topic_id, first, move.source)
        # The row first, the ledger then: no batch of another mover can slip in between.
        await connection.execute(
            "SELECT FROM ingest_offset WHERE topic = $1 AND kafka_partition = $2 FOR UPDATE",
            topic,
            move.partition,
        )
        last = await connection.fetchval(
            "SELECT max(end_offset) FROM ingest_batch WHERE kafka_partition = $1", move.partition
        )
        start = first if last is None else last
        found: int | None = await connection.fetchval(
            _RESUME_AT, topic, move.partition, topic_id, start, move.source
        )
    if found is None:
        raise MoveError(
            f"shard {move.target} takes partition {move.partition} for its own, which the map "
            "does not: was the map or FOOTFALL_SHARDS changed by hand?"
        )
    return found


async def freeze(pool: asyncpg.Pool, topic: str, move: Move) -> Standing:
    """End live writes to the old shard; where it stands for good.

    Raises:
        MoveError: a reprocess run is at work on the partition; nothing is frozen.
    """
    async with transaction(pool) as connection:
        await connection.execute(_POINT, topic, move.partition, move.target)
        run = await connection.fetchval(_REPLACING, move.partition)
        if run is not None:
            raise MoveError(
                f"run {run} replaces rows of partition {move.partition}: let it finish, or go on "
                f"with it by `footfall reprocess resume {run}`, or cancel it by "
                f"`footfall reprocess resume {run} --cancel`; then go on with this move"
            )
        row = await connection.fetchrow(_STANDING, topic, move.partition)
    assert row is not None  # noqa: S101 - it was there when the move began and nothing deletes it
    return Standing(*row)


async def thaw(pool: asyncpg.Pool, topic: str, partition: int) -> None:
    """Let the old shard take live events again; only while the map names it."""
    await pool.execute(_POINT, topic, partition, None)


async def close_target(pool: asyncpg.Pool, topic: str, move: Move) -> None:
    """Let the new shard take none: the move is called off."""
    await pool.execute(_POINT, topic, move.partition, move.source)


async def release(pool: asyncpg.Pool, topic: str, move: Move, frozen: Standing) -> None:
    """Let the new shard take live events, once it has come as far as the old one.

    Raises:
        MoveError: it has not.
    """
    found = await pool.fetchval(
        _RELEASE, topic, move.partition, frozen.applied_until, frozen.next_offset
    )
    if found is None:
        raise MoveError(f"shard {move.target} has not come to offset {frozen.next_offset}")
