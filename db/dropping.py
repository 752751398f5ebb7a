"""Deleting a partition's rows from a shard in steps of bounded size, each a transaction of its own.

Its offset row stays, as the sign to where it went. Every step can be repeated, so that a drop which
was interrupted starts over where rows are left.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Final

import asyncpg

from db.pools import transaction
from db.retry import patiently

MERCHANTS: Final = 200  # whose rows of a day go in one transaction
ROWS: Final = 50_000
PATIENCE_S: Final = 900.0

_DAYS: Final = "SELECT day FROM processed_day WHERE kafka_partition = $1 ORDER BY day"
_MERCHANTS: Final = """
SELECT DISTINCT merchant_id FROM {table}
 WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3 LIMIT $4
"""
# By merchant, as the index and the columnstore's segments are: others' segments stay compressed.
_DELETE_DAY: Final = """
DELETE FROM {table}
 WHERE merchant_id = ANY ($4) AND kafka_partition = $1 AND ts >= $2 AND ts < $3
"""
_UNBOUNDED: Final = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
_CHUNKS: Final = """
SELECT range_start, range_end FROM timescaledb_information.chunks
 WHERE hypertable_name = $1 AND hypertable_schema = current_schema() ORDER BY range_start
"""
_DELETE_CHUNK: Final = """
DELETE FROM {table} WHERE kafka_partition = $1 AND {column} >= $2 AND {column} < $3
"""
_DELETE_ORDERS: Final = """
DELETE FROM first_order
 WHERE (merchant_id, order_id) IN (SELECT merchant_id, order_id FROM first_order
                                    WHERE kafka_partition = $1 LIMIT $2)
"""
_BESIDE: Final = (
    ("rejected_event", "logged_at"),
    ("duplicate_event", "logged_at"),
    ("ingest_batch", "committed_at"),
)


async def days_of(pool: asyncpg.Pool, partition: int) -> list[date]:
    """The UTC days of which the shard may hold rows of a partition."""
    return [row["day"] for row in await pool.fetch(_DAYS, partition)]


async def drop_day(pool: asyncpg.Pool, partition: int, day: date) -> None:
    """Delete a day's events and their items. The rollups are the caller's to refresh."""
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    for table in ("event_items", "events"):
        asked, statement = _MERCHANTS.format(table=table), _DELETE_DAY.format(table=table)
        while found := await pool.fetch(
            asked, partition, start, end, MERCHANTS, timeout=PATIENCE_S
        ):
            merchants = [row["merchant_id"] for row in found]
            await patiently(partial(_delete, pool, statement, partition, start, end, merchants))


async def forget_day(pool: asyncpg.Pool, partition: int, day: date) -> None:
    """The day's rows are gone and the rollups have followed."""
    await pool.execute(
        "DELETE FROM processed_day WHERE kafka_partition = $1 AND day = $2", partition, day
    )


async def drop_the_rest(pool: asyncpg.Pool, partition: int) -> None:
    """Delete what belongs to no day: orders, rejects, repeats, and the ledger last."""
    while await pool.execute(_DELETE_ORDERS, partition, ROWS, timeout=PATIENCE_S) != "DELETE 0":
        continue
    for table, column in _BESIDE:
        statement = _DELETE_CHUNK.format(table=table, column=column)
        for row in await pool.fetch(_CHUNKS, table):
            await patiently(
                partial(_delete, pool, statement, partition, row["range_start"], row["range_end"])
            )


async def _delete(pool: asyncpg.Pool, statement: str, *values: object) -> None:
    """READ COMMITTED: an older snapshot would see nothing of a chunk compressed meanwhile."""
    async with transaction(pool) as connection:
        await connection.execute(_UNBOUNDED)
        await connection.execute(statement, *values, timeout=PATIENCE_S)
