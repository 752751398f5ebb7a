"""Events that may repeat one are looked for by the index, however a chunk has grown."""

from datetime import timedelta

import polars as pl

from db.pools import INGEST_SETTINGS, Connection
from events.batch import UTC_MICROS
from ingester.dedupe import RecentKeys, duplicates
from tests.integration.trial import trial

MANY = """
INSERT INTO events (merchant_id, ts, event, visitor, visitor_register, visitor_rank, source,
       channel, device, is_bot, counted, units, kafka_partition, log_offset, logged_at, event_id)
SELECT n % 500, '2026-09-09Z'::timestamptz + n * INTERVAL '10 ms', 'page_view', 1, 1, 1, '(direct)',
       'Direct', 'desktop', false, true, 0, 902, n, now(), 'id-' || n
  FROM generate_series($1::int8, $2::int8) AS n
"""
SOME = """
SELECT merchant_id, ts, event_id, logged_at FROM events
 WHERE kafka_partition = 902 AND log_offset % $1 = 0 ORDER BY log_offset
"""


async def one_in(connection: Connection, count: int) -> pl.DataFrame:
    """One event in so many of those that stand, as it would be sent again."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "merchant_id": pl.Int64, "ts": UTC_MICROS, "event_id": pl.String, "logged_at": UTC_MICROS,
    }  # fmt: skip
    rows = await connection.fetch(SOME, count)
    return pl.DataFrame([tuple(row) for row in rows], schema, orient="row")


async def test_a_plan_of_an_empty_chunk_is_not_kept(shard: str) -> None:
    async with trial(shard, INGEST_SETTINGS) as connection:
        recent = RecentKeys(timedelta(minutes=15))
        await connection.execute(MANY, 1, 100)
        few = await one_in(connection, 1)
        for _ in range(10):  # a server that keeps plans makes one to keep after five
            await duplicates(connection, recent, few)
        await connection.execute(MANY, 101, 50_000)
        again = await one_in(connection, 200)
        await duplicates(connection, recent, again)  # to have met them
        # By the index some milliseconds; by looking at every row for each of them, many seconds.
        await connection.execute("SET LOCAL statement_timeout = '1s'")
        assert (await duplicates(connection, recent, again)).size == 250
