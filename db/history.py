"""What of the log a window of event time came from, and what the tables hold of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
import polars as pl

from db.pools import Askable, Connection

Offsets = tuple[int, int]  # half-open


class MovedAwayError(Exception):
    """The partition lives in another shard now."""


_LINES: Final = """
SELECT array_agg(start_offset) AS start_offset, array_agg(end_offset) AS end_offset,
       array_agg(messages) AS messages, array_agg(event_rows) AS event_rows,
       array_agg(messages - event_rows - rejects - duplicates) AS elsewhere,
       array_agg(first_ts) AS first_ts, array_agg(last_ts) AS last_ts
  FROM (SELECT * FROM ingest_batch
         WHERE topic_id = $1 AND kafka_partition = $2 AND first_ts < $4 AND last_ts >= $3
           AND start_offset >= $5 AND start_offset < $6 ORDER BY start_offset) AS lines
"""
_LINE_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "start_offset": pl.Int64,
    "end_offset": pl.Int64,
    "messages": pl.Int64,
    "event_rows": pl.Int64,
    "elsewhere": pl.Int64,  # messages in whose place others came from files
    "first_ts": pl.Datetime("us", "UTC"),
    "last_ts": pl.Datetime("us", "UTC"),
}
_REPEAT_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "log_offset": pl.Int64,
    "ts": pl.Datetime("us", "UTC"),
    "merchant_id": pl.Int64,
}
_REJECT_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    **_REPEAT_SCHEMA,
    "reason": pl.String,
    "field": pl.String,
    "detail": pl.String,
}
_OTHER_TOPICS: Final = """
SELECT DISTINCT topic_id FROM ingest_batch
 WHERE kafka_partition = ANY ($1) AND first_ts < $3 AND last_ts >= $2 AND topic_id <> $4
"""


def _arrays(prefix: str, columns: Iterable[str]) -> str:
    """Rows as one row of arrays."""
    return ", ".join(f"array_agg({name}) AS {prefix}_{name}" for name in columns)


# One statement is one snapshot: a slice beside this one may be replaced meanwhile, and a message
# that it moves must not be half here and half there.
_HELD: Final = f"""
SELECT * FROM ({_LINES}) AS lines,
       (SELECT array_agg(log_offset ORDER BY log_offset) AS events FROM events
         WHERE kafka_partition = $2 AND ts >= $7 AND ts < $8
           AND log_offset >= $5 AND log_offset < $6
           AND ($9::int8 IS NULL OR merchant_id = $9)) AS events,
       (SELECT {_arrays("reject", _REJECT_SCHEMA)} FROM rejected_event
         WHERE topic_id = $1 AND kafka_partition = $2
           AND log_offset >= $5 AND log_offset < $6) AS rejects,
       (SELECT {_arrays("repeat", _REPEAT_SCHEMA)} FROM duplicate_event
         WHERE kafka_partition = $2 AND log_offset >= $5 AND log_offset < $6) AS repeats
"""
_ADJUST: Final = """
UPDATE ingest_batch AS line
   SET event_rows = line.event_rows + delta.events, item_rows = line.item_rows + delta.items,
       rejects = line.rejects + delta.rejects, duplicates = line.duplicates + delta.repeats,
       min_ts = least(line.min_ts, delta.low), max_ts = greatest(line.max_ts, delta.high),
       first_ts = least(line.first_ts, delta.low), last_ts = greatest(line.last_ts, delta.high)
  FROM unnest($3::int8[], $4::int8[], $5::int8[], $6::int8[], $7::int8[], $8::timestamptz[],
              $9::timestamptz[])
       AS delta (start_offset, events, items, rejects, repeats, low, high)
 WHERE line.topic_id = $1 AND line.kafka_partition = $2
   AND line.start_offset = delta.start_offset
"""

_PER_LINE: Final = """
SELECT line.start_offset, count(*) AS n
  FROM {table} AS held
  JOIN unnest($3::int8[], $4::int8[]) AS line (start_offset, end_offset)
    ON line.start_offset = ($3::int8[])[width_bucket(held.log_offset, $3::int8[])]
 WHERE held.log_offset < line.end_offset AND held.kafka_partition = $2 {only}
 GROUP BY 1
"""
_TIMED: Final = "AND held.ts >= $5 AND held.ts <= $6"
_RECOUNT: Final = f"""
UPDATE ingest_batch AS line
   SET event_rows = coalesce(events.n, 0), item_rows = coalesce(items.n, 0),
       rejects = coalesce(rejects.n, 0), duplicates = coalesce(repeats.n, 0)
  FROM unnest($3::int8[]) AS asked (start_offset)
  LEFT JOIN ({_PER_LINE.format(table="events", only=_TIMED)}) AS events USING (start_offset)
  LEFT JOIN ({_PER_LINE.format(table="event_items", only=_TIMED)}) AS items USING (start_offset)
  LEFT JOIN ({_PER_LINE.format(table="rejected_event", only="AND held.topic_id = $1")}) AS rejects
 USING (start_offset)
  LEFT JOIN ({_PER_LINE.format(table="duplicate_event", only="")}) AS repeats USING (start_offset)
 WHERE line.topic_id = $1 AND line.kafka_partition = $2
   AND line.start_offset = asked.start_offset
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Which old rows are meant: of one partition, within a window, of one merchant or all, and of
    a range of offsets. Rows that came from files have offsets below zero."""

    partition: int
    start: datetime
    end: datetime
    merchant_id: int | None = None
    first_offset: int = -(2**63)
    end_offset: int = 2**63 - 1

    @property
    def values(self) -> tuple[object, ...]:
        """As the statements take them."""
        return (
            self.partition,
            self.start,
            self.end,
            self.merchant_id,
            self.first_offset,
            self.end_offset,
        )


@dataclass(frozen=True, slots=True)
class Held:
    """Where the tables hold a partition's messages of a range of offsets, in one snapshot.

    `lines` are those of the ledger that hold anything of a window or near it, `events` those within
    the window; rejects and repeats are all of the offsets.
    """

    lines: pl.DataFrame  # as `lines_of` gives them
    events: list[int]
    rejects: pl.DataFrame  # log_offset, ts, merchant_id, reason, field, detail
    repeats: pl.DataFrame  # log_offset, ts, merchant_id


async def lines_of(
    pool: Askable,
    topic_id: str,
    partition: int,
    window: tuple[datetime, datetime],
    offsets: Offsets,
) -> pl.DataFrame:
    """The ledger's lines that begin within the offsets and whose batches hold anything of a
    window, in order.

    Columns: start_offset, end_offset, messages, event_rows, elsewhere, first_ts, last_ts.
    """
    row = await pool.fetchrow(_LINES, topic_id, partition, *window, *offsets)
    assert row is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return _frame(row, "", _LINE_SCHEMA)


def ranges_of(lines: pl.DataFrame, near: int = 5_000) -> list[Offsets]:
    """The offsets of lines, those that lie near each other as one: reading on beats seeking."""
    found: list[Offsets] = []
    for start, end in lines.select("start_offset", "end_offset").iter_rows():
        if found and start - found[-1][1] <= near:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


async def other_topics(
    pool: asyncpg.Pool,
    topic_id: str,
    partitions: Sequence[int],
    window: tuple[datetime, datetime],
) -> list[str]:
    """Ids under which rows of the window were read that are not the topic's of today."""
    rows = await pool.fetch(_OTHER_TOPICS, list(partitions), *window, topic_id)
    return [row["topic_id"] for row in rows]


async def held_places(
    pool: Askable, topic_id: str, place: Place, near: tuple[datetime, datetime]
) -> Held:
    """What the tables hold of a place, and the lines of the ledger within its offsets that hold
    anything of `near`."""
    partition, start, end, merchant, first, last = place.values
    row = await pool.fetchrow(_HELD, topic_id, partition, *near, first, last, start, end, merchant)
    assert row is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return Held(
        _frame(row, "", _LINE_SCHEMA),
        row["events"] or [],
        _frame(row, "reject_", _REJECT_SCHEMA),
        _frame(row, "repeat_", _REPEAT_SCHEMA),
    )


def _frame(
    row: asyncpg.Record, prefix: str, schema: dict[str, pl.DataType | type[pl.DataType]]
) -> pl.DataFrame:
    return pl.DataFrame({name: row[prefix + name] or [] for name in schema}, schema=schema)


async def adjust_lines(
    connection: Connection, topic_id: str, partition: int, deltas: pl.DataFrame
) -> None:
    """Keep the ledger true to the tables.

    Args:
        deltas: start_offset of a line; events, items, rejects, repeats to add; low and high, the
            event times that came to it.
    """
    if deltas.is_empty():
        return
    names = ("start_offset", "events", "items", "rejects", "repeats", "low", "high")
    columns = [deltas.get_column(name).to_list() for name in names]
    await connection.execute(_ADJUST, topic_id, partition, *columns)


async def recount_lines(
    connection: Connection, topic_id: str, partition: int, lines: pl.DataFrame
) -> None:
    """Let lines of the ledger, in order, say what the tables hold of them."""
    if lines.is_empty():
        return
    await connection.execute(
        _RECOUNT,
        topic_id,
        partition,
        lines["start_offset"].to_list(),
        lines["end_offset"].to_list(),
        lines["first_ts"].min(),
        lines["last_ts"].max(),
    )


async def take_fence(connection: Connection, topic: str, partition: int) -> int:
    """Hold the partition's offset until the transaction ends; where it stands.

    The row is written, so that a live batch that overlaps this transaction starts afresh and
    sees what it did.

    Raises:
        MovedAwayError: the partition is not this shard's any more.
    """
    found: int | None = await connection.fetchval(
        "UPDATE ingest_offset SET replaced_at = now() WHERE topic = $1 AND kafka_partition = $2 "
        "AND moved_to IS NULL RETURNING next_offset",
        topic,
        partition,
    )
    if found is None:
        raise MovedAwayError(
            f"partition {partition} was moved to another shard: cancel this run (`reprocess resume "
            "--cancel`) and plan it anew"
        )
    return found


async def next_offset(pool: Askable, topic: str, partition: int) -> int | None:
    """Where a partition stands; None where it was never read."""
    found: int | None = await pool.fetchval(
        "SELECT next_offset FROM ingest_offset WHERE topic = $1 AND kafka_partition = $2",
        topic,
        partition,
    )
    return found
