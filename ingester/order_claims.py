"""Which purchase of an order counts, decided while a batch is loaded.

The rule is `db.orders`': a person's purchase by a server's key or the topic, then a person's by a
public key, then a bot's; among equals the first in the log. A better one may come later: the order
then changes hands in the same transaction, and the purchase that counted until then no longer does.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import polars as pl

from db.orders import PRECEDENCE
from db.pools import Connection

PLACE: Final = ["kafka_partition", "log_offset"]
_ORDER: Final = ["merchant_id", "order_id"]
# Rows of an older day may have been dropped by the retention; their order changes hands all the
# same.
_KEPT: Final = timedelta(days=360)

_STORED: Final = """
SELECT merchant_id, order_id, ts, kafka_partition, log_offset, precedence
  FROM first_order JOIN unnest($1::int8[], $2::text[]) AS asked (merchant_id, order_id)
 USING (merchant_id, order_id)
"""
_CLAIM: Final = """
INSERT INTO first_order (merchant_id, order_id, ts, kafka_partition, log_offset, precedence)
SELECT * FROM unnest($1::int8[], $2::text[], $3::timestamptz[], $4::int4[], $5::int8[],
                     $6::int2[])
    ON CONFLICT (merchant_id, order_id) DO UPDATE
   SET ts = excluded.ts, kafka_partition = excluded.kafka_partition,
       log_offset = excluded.log_offset, precedence = excluded.precedence
 WHERE first_order.precedence > excluded.precedence
RETURNING kafka_partition, log_offset
"""
# Together where they share a merchant and a time, which any number of rows may have.
_UNCOUNT: Final = """
UPDATE {table} AS held SET counted = false
  FROM (SELECT merchant_id, ts, kafka_partition, array_agg(log_offset) AS log_offsets
          FROM unnest($1::int8[], $2::timestamptz[], $3::int4[], $4::int8[])
               AS lost (merchant_id, ts, kafka_partition, log_offset)
         GROUP BY merchant_id, ts, kafka_partition) AS lost
 WHERE held.merchant_id = lost.merchant_id AND held.ts = lost.ts
   AND held.kafka_partition = lost.kafka_partition AND held.log_offset = ANY (lost.log_offsets)
   AND held.ts BETWEEN $5 AND $6
"""
_UNCOUNT_EVENTS: Final = _UNCOUNT.format(table="events")
_UNCOUNT_ITEMS: Final = _UNCOUNT.format(table="event_items")
_UNPACK: Final = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
_NOTE: Final = """
INSERT INTO overtaken_order (merchant_id, ts, kafka_partition, log_offset, overtaken_by)
SELECT * FROM unnest($1::int8[], $2::timestamptz[], $3::int4[], $4::int8[], $5::int8[])
    ON CONFLICT DO NOTHING
"""
_FORGET: Final = "DELETE FROM overtaken_order WHERE overtaken_at < now() - INTERVAL '1 day'"


@dataclass(frozen=True, slots=True)
class Claimed:
    """What became of a batch's purchases."""

    uncounted: pl.DataFrame  # places of those that do not count
    overtaken: pl.DataFrame  # `kafka_partition, ts` of stored ones that no longer count


async def claim_orders(connection: Connection, rows: pl.DataFrame) -> Claimed:
    """Decide the orders of a batch's purchases, and take them from stored ones that are worse.

    Raises:
        asyncpg.SerializationError: a purchase that counted was not found in this snapshot: the
            transaction must be tried again.
    """
    purchases = rows.filter(pl.col("event") == "purchase").with_columns(PRECEDENCE)
    times = purchases.select("kafka_partition", "ts")
    nothing = Claimed(purchases.select(PLACE).clear(), times.clear())
    if purchases.is_empty():
        return nothing
    best = purchases.sort("precedence", *PLACE).unique(_ORDER, keep="first", maintain_order=True)
    columns = (*_ORDER, "ts", *PLACE, "precedence")
    stored = _frame(
        await connection.fetch(_STORED, *(best.get_column(name).to_list() for name in _ORDER))
    )
    won = await connection.fetch(_CLAIM, *(best.get_column(name).to_list() for name in columns))
    counted = pl.DataFrame(
        [tuple(row) for row in won],
        schema={"kafka_partition": pl.Int32, "log_offset": pl.Int64},
        orient="row",
    )
    uncounted = purchases.join(counted, on=PLACE, how="anti").select(PLACE)
    if stored.is_empty():
        return Claimed(uncounted, nothing.overtaken)
    winners = best.select(*_ORDER, "precedence", overtaken_by="log_offset")
    lost = stored.join(winners, on=_ORDER, suffix="_new").filter(
        pl.col("precedence_new") < pl.col("precedence")
    )
    await _uncount(connection, lost, rows)
    return Claimed(uncounted, lost.select("kafka_partition", "ts"))


async def _uncount(connection: Connection, lost: pl.DataFrame, rows: pl.DataFrame) -> None:
    if lost.is_empty():
        return
    newest = rows.get_column("logged_at").max()
    assert isinstance(newest, datetime)  # noqa: S101 - there are rows, each with its log time
    values = [lost.get_column(name).to_list() for name in ("merchant_id", "ts", *PLACE)]
    times = (lost.get_column("ts").min(), lost.get_column("ts").max())
    await connection.execute(_UNPACK)
    told = await connection.execute(_UNCOUNT_EVENTS, *values, *times)
    required = lost.filter(pl.col("ts") > newest - _KEPT).height
    if int(told.removeprefix("UPDATE ")) < required:
        # A snapshot that is older than a recompression sees none of a chunk's rows.
        raise asyncpg.SerializationError(
            f"{required} purchases were to lose their orders, the server answered {told}"
        )
    await connection.execute(_UNCOUNT_ITEMS, *values, *times)
    await connection.execute(_NOTE, *values, lost.get_column("overtaken_by").to_list())
    await connection.execute(_FORGET)


def _frame(rows: list[asyncpg.Record]) -> pl.DataFrame:
    return pl.DataFrame(
        [tuple(row) for row in rows],
        schema={
            "merchant_id": pl.Int64,
            "order_id": pl.String,
            "ts": pl.Datetime("us", "UTC"),
            "kafka_partition": pl.Int32,
            "log_offset": pl.Int64,
            "precedence": pl.Int16,
        },
        orient="row",
    )
