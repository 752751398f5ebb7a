"""Replacing rows by rows that were made again, within one transaction of the caller.

Only what differs is written: a replay that changes nothing writes nothing, and leaves compressed
chunks alone.

The transaction is READ COMMITTED: an older snapshot would see none of the rows of a chunk that was
recompressed meanwhile, and delete nothing without a word.
"""

import asyncio
from typing import Final

import polars as pl

from db.copier import ROW_ORDER, copy_rows
from db.history import AT_PLACE, Place
from db.pools import Connection
from db.standing import Rows

_REPLACING: Final = 0x52706C63  # advisory lock key
# A temporary table goes with the transaction: the embedded database's one session is everybody's.
_PREPARE: Final = """
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
SET LOCAL work_mem = '128MB';
CREATE TEMP TABLE gone (log_offset int8, ts timestamptz) ON COMMIT DROP
"""
_DELETE: Final = """
DELETE FROM {table} AS held USING gone
 WHERE held.kafka_partition = $1 AND held.ts >= $2 AND held.ts <= $3
   AND held.log_offset = gone.log_offset AND held.ts = gone.ts
"""


class ReplacementError(Exception):
    """The tables did not do as they were told, or are not what the ledger says: nothing stands."""


async def prepare(connection: Connection, partition: int) -> None:
    """Wait until nobody else replaces rows of the partition, and make what `delete` needs; both
    end with the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", _REPLACING, partition)
    await connection.execute(_PREPARE)


async def delete(connection: Connection, partition: int, table: str, old: pl.DataFrame) -> None:
    """Delete rows that were taken within this transaction.

    Raises:
        ReplacementError: the server deleted another number of rows.
    """
    if old.is_empty():
        return
    await copy_rows(connection, "gone", old.select("log_offset", "ts").unique())
    bounds = (old["ts"].min(), old["ts"].max())
    told = await connection.execute(_DELETE.format(table=table), partition, *bounds)
    _check(told, table, old)
    await connection.execute("TRUNCATE gone")  # for what else goes in the same transaction


async def clear(connection: Connection, place: Place, table: str, old: pl.DataFrame) -> None:
    """Delete all that stands at a place, which is what was taken there within this transaction:
    to name no row costs the server less than half.

    Raises:
        ReplacementError: the server deleted another number of rows.
    """
    if old.is_empty():
        return
    told = await connection.execute(f"DELETE FROM {table} WHERE {AT_PLACE}", *place.values)
    _check(told, table, old)


def _check(told: str, table: str, old: pl.DataFrame) -> None:
    if told != f"DELETE {old.height}":
        raise ReplacementError(
            f"{old.height} rows of {table} are to go, the server answered {told}"
        )


async def insert(connection: Connection, new: Rows) -> None:
    """Write rows in the order in which live ingest does.

    Raises:
        CopyMismatchError: the server took another number of rows.
    """
    for table, frame in new.by_table.items():
        ordered = await asyncio.to_thread(frame.sort, *ROW_ORDER)
        await copy_rows(connection, table, ordered)


async def replace_rejects(
    connection: Connection, topic_id: str, partition: int, old: list[int], new: pl.DataFrame
) -> None:
    """Rejects in the place of those that stood at these offsets."""
    await connection.execute(
        "DELETE FROM rejected_event "
        "WHERE topic_id = $1 AND kafka_partition = $2 AND log_offset = ANY ($3)",
        topic_id,
        partition,
        old,
    )
    named = new.select(pl.lit(topic_id).alias("topic_id"), pl.all())
    await copy_rows(connection, "rejected_event", named)


async def replace_repeats(
    connection: Connection, partition: int, old: list[int], new: pl.DataFrame
) -> None:
    """Repeats in the place of those that stood at these offsets."""
    await connection.execute(
        "DELETE FROM duplicate_event WHERE kafka_partition = $1 AND log_offset = ANY ($2)",
        partition,
        old,
    )
    await copy_rows(connection, "duplicate_event", new)
