"""Rows put into a shard as an ingester would have left them: by COPY, with a line in the ledger."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import asyncpg
import psycopg
from psycopg import sql

from db.pools import WRITER_SETTINGS, open_pool

T = TypeVar("T")
_offsets = itertools.count(1)

_EVENT: Final = (
    "merchant_id ts event visitor visitor_register visitor_rank session page source channel "
    "device is_bot value_minor currency order_id counted units kafka_partition log_offset logged_at"
).split()
_ITEM: Final = (
    "merchant_id ts event product_id quantity price_minor currency is_bot counted "
    "kafka_partition log_offset item_index"
).split()


@dataclass(frozen=True, slots=True)
class Stored:
    """One event: a purchase where it has a value or items. Items are (price_minor, quantity)."""

    merchant: int
    at: datetime
    value_minor: int | None = None
    currency: str = "EUR"
    items: Sequence[tuple[int | None, int]] = ()


def store(
    dsn: str, events: Sequence[Stored], partition: int = 0, topic: str = "stored.events"
) -> None:
    """The rows of these events, and one batch of the ledger."""
    now = datetime.now(UTC)
    rows: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    for each in events:
        offset = next(_offsets)
        name = "page_view" if each.value_minor is None and not each.items else "purchase"
        units = min(sum(quantity for _, quantity in each.items), 2**31 - 1)
        rows.append((
            each.merchant, each.at, name, offset, offset % 4096, 1, offset, "/", "direct",
            "Direct", "desktop", False, each.value_minor, each.currency, str(offset), True, units,
            partition, offset, now,
        ))  # fmt: skip
        lines += [
            (each.merchant, each.at, name, f"p{index % 3}", quantity, price, each.currency, False,
             True, partition, offset, index)
            for index, (price, quantity) in enumerate(each.items)
        ]  # fmt: skip
    with psycopg.connect(dsn) as connection:
        _copy(connection, "events", _EVENT, rows)
        _copy(connection, "event_items", _ITEM, lines)
        times = [each.at for each in events]
        connection.execute(
            "INSERT INTO ingest_offset (topic, kafka_partition, topic_id, next_offset, "
            "applied_until) VALUES (%s, %s, 'stored', %s, now()) "
            "ON CONFLICT (topic, kafka_partition) DO UPDATE "
            "SET next_offset = excluded.next_offset, applied_until = excluded.applied_until",
            (topic, partition, rows[-1][18] + 1),
        )
        connection.execute(
            "INSERT INTO ingest_batch (topic_id, kafka_partition, start_offset, end_offset, "
            "messages, event_rows, item_rows, rejects, duplicates, min_ts, max_ts, min_logged_at, "
            "max_logged_at, logic_version, first_ts, last_ts) "
            "VALUES ('stored', %s, %s, %s, %s, %s, %s, 0, 0, %s, %s, %s, %s, 1, %s, %s)",
            (partition, rows[0][18], rows[-1][18] + 1, len(rows), len(rows), len(lines),
             min(times), max(times), now, now, min(times), max(times)),
        )  # fmt: skip


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: list[str], rows: list[tuple[Any, ...]]
) -> None:
    named = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), named)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def with_pool(dsn: str, work: Callable[[asyncpg.Pool], Awaitable[T]]) -> T:
    """What `work` returns, with a pool of the shard."""

    async def run() -> T:
        pool = await open_pool(dsn, WRITER_SETTINGS, size=2, command_timeout=120)
        try:
            return await work(pool)
        finally:
            pool.terminate()

    return asyncio.run(run())
