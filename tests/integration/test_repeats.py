"""Events that may repeat one are looked for by the index, however a chunk has grown and however
many events have one time."""

from datetime import UTC, datetime, timedelta

import polars as pl

from db.pools import INGEST_SETTINGS, Connection
from events.batch import UTC_MICROS
from ingester.dedupe import RecentKeys, duplicates
from ingester.order_claims import claim_orders
from tests.integration.trial import trial

MANY = """
INSERT INTO events (merchant_id, ts, event, visitor, visitor_register, visitor_rank, source,
       channel, device, is_bot, counted, units, kafka_partition, log_offset, logged_at, event_id)
SELECT n % 500, '2026-09-09Z'::timestamptz + n * INTERVAL '10 ms', 'page_view', 1, 1, 1, '(direct)',
       'Direct', 'desktop', false, true, 0, 902, n, now(), 'id-' || n
  FROM generate_series($1::int8, $2::int8) AS n
"""
# Of one merchant and one time.
AT_ONCE = MANY.replace("n % 500", "7").replace(" + n * INTERVAL '10 ms'", "")
SOME = """
SELECT merchant_id, ts, event_id, from_public_key, logged_at FROM events
 WHERE kafka_partition = 902 AND log_offset % $1 = 0 ORDER BY log_offset
"""


async def one_in(connection: Connection, count: int) -> pl.DataFrame:
    """One event in so many of those that stand, as it would be sent again."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "merchant_id": pl.Int64, "ts": UTC_MICROS, "event_id": pl.String,
        "from_public_key": pl.Boolean, "logged_at": UTC_MICROS,
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


async def test_many_events_of_one_time_are_told_apart_by_the_index(shard: str) -> None:
    async with trial(shard, INGEST_SETTINGS) as connection:
        recent = RecentKeys(timedelta(minutes=15))
        await connection.execute(AT_ONCE, 1, 60_000)
        again = await one_in(connection, 120)
        await duplicates(connection, recent, again)  # to have met them
        # By the index some milliseconds; by looking at 60,000 rows for each of them, a minute.
        await connection.execute("SET LOCAL statement_timeout = '2s'")
        assert (await duplicates(connection, recent, again)).size == 500


async def test_orders_of_one_time_are_taken_back_together(shard: str) -> None:
    """By whoever makes many public purchases of one time, before a server's of the same orders."""
    async with trial(shard, INGEST_SETTINGS) as connection:
        at_once = (
            AT_ONCE.replace("'page_view'", "'purchase'")
            .replace("event_id)", "event_id, order_id, from_public_key)")
            .replace("'id-' || n", "'id-' || n, 'order-' || n, true")
        )
        await connection.execute(at_once, 1, 60_000)
        await connection.execute(
            "INSERT INTO first_order (merchant_id, order_id, ts, kafka_partition, log_offset, "
            "precedence) SELECT merchant_id, order_id, ts, kafka_partition, log_offset, 1 "
            "FROM events WHERE kafka_partition = 902"
        )
        orders = [f"order-{n}" for n in range(1, 301)]
        now = datetime.now(UTC)
        rows = pl.DataFrame(
            {
                "merchant_id": 7, "event": "purchase", "order_id": orders, "ts": now,
                "is_bot": False, "from_public_key": False, "kafka_partition": 902,
                "log_offset": range(100_001, 100_301), "logged_at": now,
            },
            schema_overrides={"kafka_partition": pl.Int32},
        )  # fmt: skip
        await connection.execute("SET LOCAL statement_timeout = '3s'")
        claimed = await claim_orders(connection, rows)
        assert claimed.uncounted.is_empty()
        assert claimed.overtaken.height == 300
        uncounted = await connection.fetchval(
            "SELECT count(*) FROM events WHERE kafka_partition = 902 AND NOT counted"
        )
        assert uncounted == 300
