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


def _arrays(columns: Iterable[str]) -> str:
    """Rows as one row of arrays."""
    return ", ".join(f"array_agg({name}) AS {name}" for name in columns)


_REJECTS: Final = f"""
SELECT {_arrays(_REJECT_SCHEMA)} FROM rejected_event
 WHERE topic_id = $1 AND kafka_partition = $2
   AND (log_offset >= $3 AND log_offset < $4 OR log_offset < 0 AND $5)
"""
_REPEATS: Final = f"""
SELECT {_arrays(_REPEAT_SCHEMA)} FROM duplicate_event
 WHERE kafka_partition = $1
   AND (log_offset >= $2 AND log_offset < $3 AND ts >= $5 AND ts <= $6 OR log_offset < 0 AND $4)
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

PER_LINE: Final = """
SELECT line.start_offset, count(*) AS n
  FROM {table} AS held
  JOIN unnest($3::int8[], $4::int8[]) AS line (start_offset, end_offset)
    ON line.start_offset = ($3::int8[])[width_bucket(held.log_offset, $3::int8[])]
 WHERE held.log_offset < line.end_offset AND held.kafka_partition = $2 {only}
 GROUP BY 1
"""
TIMED: Final = "AND held.ts >= $5 AND held.ts <= $6"
# What the tables hold of each line: to be joined to lines by their `start_offset`.
COUNTED: Final = f"""
  LEFT JOIN ({PER_LINE.format(table="events", only=TIMED)}) AS events USING (start_offset)
  LEFT JOIN ({PER_LINE.format(table="event_items", only=TIMED)}) AS items USING (start_offset)
  LEFT JOIN ({PER_LINE.format(table="rejected_event", only="AND held.topic_id = $1")}) AS rejects
 USING (start_offset)
  LEFT JOIN ({PER_LINE.format(table="duplicate_event", only="")}) AS repeats USING (start_offset)
"""
_RECOUNT: Final = f"""
UPDATE ingest_batch AS line
   SET event_rows = coalesce(events.n, 0), item_rows = coalesce(items.n, 0),
       rejects = coalesce(rejects.n, 0), duplicates = coalesce(repeats.n, 0)
  FROM unnest($3::int8[]) AS asked (start_offset) {COUNTED}
 WHERE line.topic_id = $1 AND line.kafka_partition = $2
   AND line.start_offset = asked.start_offset
"""


# What stands at a `Place`, in `events` or `event_items`, by its values.
AT_PLACE: Final = (
    "kafka_partition = $1 AND ts >= $2 AND ts < $3 AND ($4::int8 IS NULL OR merchant_id = $4) "
    "AND log_offset >= $5 AND log_offset < $6"
)


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
    return await _columns(pool, _LINE_SCHEMA, _LINES, topic_id, partition, *window, *offsets)


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


async def rejects_of(
    connection: Connection, topic_id: str, partition: int, offsets: Offsets, *, from_files: bool
) -> pl.DataFrame:
    """Rejects of a range of offsets in the log's order: log_offset, ts, merchant_id, reason, field
    and detail.

    Args:
        from_files: whether those that came from files are meant, too.
    """
    values = (topic_id, partition, *offsets, from_files)
    return (await _columns(connection, _REJECT_SCHEMA, _REJECTS, *values)).sort("log_offset")


async def repeats_of(
    connection: Connection,
    partition: int,
    offsets: Offsets,
    times: tuple[datetime, datetime],
    *,
    from_files: bool,
) -> pl.DataFrame:
    """Repeats of a range of offsets and of event time, its end included, in the log's order:
    log_offset, ts, merchant_id.

    Args:
        from_files: whether those that came from files are meant, too, whatever their time.
    """
    values = (partition, *offsets, from_files, *times)
    return (await _columns(connection, _REPEAT_SCHEMA, _REPEATS, *values)).sort("log_offset")


async def _columns(
    pool: Askable,
    schema: dict[str, pl.DataType | type[pl.DataType]],
    statement: str,
    *values: object,
) -> pl.DataFrame:
    """What a statement says in one row of arrays."""
    row = await pool.fetchrow(statement, *values)
    assert row is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return pl.DataFrame({name: row[name] or [] for name in schema}, schema=schema)


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


async def replaced_at(
    connection: Connection, topic: str, partition: int
) -> tuple[datetime | None, datetime]:
    """When rows of a partition were last replaced, None for never, and when this transaction began:
    what the former is once it has taken the fence."""
    row = await connection.fetchrow(
        "SELECT max(replaced_at), now() FROM ingest_offset "
        "WHERE topic = $1 AND kafka_partition = $2",
        topic,
        partition,
    )
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY gives exactly one row
    return row[0], row[1]


async def next_offset(pool: Askable, topic: str, partition: int) -> int | None:
    """Where a partition stands; None where it was never read."""
    found: int | None = await pool.fetchval(
        "SELECT next_offset FROM ingest_offset WHERE topic = $1 AND kafka_partition = $2",
        topic,
        partition,
    )
    return found
