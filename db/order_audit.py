"""Whether exactly one purchase of each order counts, and `first_order` names it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import asyncpg

from db.orders import PRECEDENCE_SQL, Order
from db.pools import Connection, transaction

_PURCHASES: Final = f"""
SELECT merchant_id, order_id, ts, kafka_partition, log_offset, counted,
       {PRECEDENCE_SQL} AS precedence
  FROM events WHERE event = 'purchase' AND order_id IS NOT NULL
"""
# Of the window: a counted purchase that is not the one named; an order without a name; a name
# without its counted purchase.
_WRONG: Final = f"""
WITH purchase AS ({_PURCHASES} AND kafka_partition = $1 AND ts >= $2 AND ts < $3
                  AND ($4::int8 IS NULL OR merchant_id = $4)),
named AS (SELECT * FROM first_order WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
             AND ($4::int8 IS NULL OR merchant_id = $4))
SELECT merchant_id, order_id
  FROM purchase LEFT JOIN first_order AS first USING (merchant_id, order_id)
 WHERE first.order_id IS NULL
    OR purchase.counted AND (first.kafka_partition, first.log_offset, first.ts, first.precedence)
       IS DISTINCT FROM
       (purchase.kafka_partition, purchase.log_offset, purchase.ts, purchase.precedence)
UNION
SELECT merchant_id, order_id
  FROM named LEFT JOIN purchase
 USING (merchant_id, order_id, kafka_partition, log_offset, ts)
 WHERE purchase.counted IS NOT TRUE
"""
_FORGET: Final = """
DELETE FROM first_order USING unnest($1::int8[], $2::text[]) AS wrong (merchant_id, order_id)
 WHERE first_order.merchant_id = wrong.merchant_id AND first_order.order_id = wrong.order_id
"""
# Rows that came from files have no place in the log: beside them equals are decided by time.
_NAME: Final = f"""
INSERT INTO first_order (merchant_id, order_id, ts, kafka_partition, log_offset, precedence)
SELECT DISTINCT ON (merchant_id, order_id) merchant_id, order_id, ts, kafka_partition, log_offset,
       precedence
  FROM (SELECT *, min(log_offset) OVER (PARTITION BY merchant_id, order_id) AS lowest
          FROM ({_PURCHASES}) AS purchase
          JOIN unnest($1::int8[], $2::text[]) AS wrong (merchant_id, order_id)
         USING (merchant_id, order_id)) AS purchase
 ORDER BY merchant_id, order_id, precedence, CASE WHEN lowest < 0 THEN ts END, log_offset
"""
_COUNT: Final = """
UPDATE {table} AS row SET counted = NOT row.counted
  FROM (SELECT purchase.merchant_id, purchase.ts, purchase.kafka_partition, purchase.log_offset,
               (purchase.kafka_partition, purchase.log_offset) =
               (first.kafka_partition, first.log_offset) AS counts
          FROM events AS purchase
          JOIN unnest($1::int8[], $2::text[]) AS wrong (merchant_id, order_id)
         USING (merchant_id, order_id)
          JOIN first_order AS first USING (merchant_id, order_id)
         WHERE purchase.event = 'purchase') AS purchase
 WHERE row.merchant_id = purchase.merchant_id AND row.ts = purchase.ts
   AND row.kafka_partition = purchase.kafka_partition AND row.log_offset = purchase.log_offset
   AND row.counted <> purchase.counts
"""
_UNPACK: Final = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"


async def audit(
    connection: Connection,
    partition: int,
    window: tuple[datetime, datetime],
    merchant_id: int | None,
) -> list[Order]:
    """Orders with a purchase in a half-open window of which not exactly the named one counts."""
    rows = await connection.fetch(_WRONG, partition, *window, merchant_id)
    return sorted((row["merchant_id"], row["order_id"]) for row in rows)


async def repair(pool: asyncpg.Pool, orders: Iterable[Order]) -> None:
    """Name and count one purchase of each order again, from all rows of it that are stored."""
    listed = list(orders)
    values = [merchant for merchant, _ in listed], [order for _, order in listed]
    async with transaction(pool) as connection:
        await connection.execute(_UNPACK)
        await connection.execute("LOCK TABLE first_order IN SHARE ROW EXCLUSIVE MODE")
        await connection.execute(_FORGET, *values)
        await connection.execute(_NAME, *values)
        for table in ("event_items", "events"):
            await connection.execute(_COUNT.format(table=table), *values)
