"""Rows come back from the tables as the columns that went in, and only those that are asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from db import replacement
from db.history import Place
from db.pools import REPLAY_SETTINGS, open_pool
from db.replacement import ReplacementError
from db.standing import EVENT_SCHEMA, ITEM_SCHEMA, Rows, take
from tests.integration.trial import trial

NOON = datetime(2026, 9, 1, 12, 0, 0, 1, tzinfo=UTC)
DAY = (NOON - timedelta(hours=12), NOON + timedelta(hours=12))
PARTITION = 901  # nobody else's


def event(offset: int, **given: Any) -> dict[str, Any]:
    """A row of `events`."""
    required = {
        "merchant_id": 7, "ts": NOON + timedelta(seconds=offset), "event": "page_view",
        "visitor": -(2**63), "visitor_register": 4095, "visitor_rank": 53, "source": "(direct)",
        "channel": "Direct", "device": "desktop", "is_bot": False, "counted": True, "units": 0,
        "kafka_partition": PARTITION, "log_offset": offset, "logged_at": NOON,
        "from_public_key": False,
    }  # fmt: skip
    return dict.fromkeys(EVENT_SCHEMA) | required | given


def item(offset: int, index: int, **given: Any) -> dict[str, Any]:
    """A row of `event_items`."""
    required = {
        "merchant_id": 7, "ts": NOON + timedelta(seconds=offset), "event": "view_item",
        "product_id": "p", "quantity": 1, "is_bot": True, "counted": False,
        "kafka_partition": PARTITION, "log_offset": offset, "item_index": index,
    }  # fmt: skip
    return dict.fromkeys(ITEM_SCHEMA) | required | given


def rows(events: list[dict[str, Any]], items: list[dict[str, Any]]) -> Rows:
    """As a replay makes them."""
    return Rows(pl.DataFrame(events, EVENT_SCHEMA), pl.DataFrame(items, ITEM_SCHEMA))


SENT = rows(
    [
        event(
            1, page="", campaign='say "x", y\nz', properties='{"a": "b\\n"}', value_minor=-(2**62)
        ),
        event(
            2, page="\\N", campaign=None, utm_term=" é\t", session=5, is_bot=True, currency="EUR"
        ),
        event(3, merchant_id=8),
    ],
    [item(1, 0, price_minor=100), item(1, 1, product_id='"'), item(3, 0, merchant_id=8)],
)


def only(which: pl.Expr) -> Rows:
    """Those of what was sent of which something is true."""
    return Rows(SENT.events.filter(which), SENT.items.filter(which))


def same(found: Rows, wanted: Rows) -> None:
    """Both tables' rows, in order."""
    assert_frame_equal(found.events, wanted.events)
    assert_frame_equal(found.items, wanted.items)


async def test_what_was_written_is_read_again_and_deleted_as_told(shard: str) -> None:
    async with trial(shard, REPLAY_SETTINGS) as connection:
        await replacement.prepare(connection, PARTITION)
        await replacement.insert(connection, SENT)
        same(await take(connection, Place(PARTITION, *DAY)), SENT)
        of_one = Place(PARTITION, *DAY, merchant_id=8)
        same(await take(connection, of_one), only(pl.col("merchant_id") == 8))
        within = Place(PARTITION, *DAY, first_offset=1, end_offset=3)
        same(await take(connection, within, [2, 3]), only(pl.col("log_offset") == 2))
        late = Place(PARTITION, NOON + timedelta(seconds=2), DAY[1])
        same(await take(connection, late), only(pl.col("log_offset") >= 2))
        same(await take(connection, Place(PARTITION + 1, *DAY)), only(pl.lit(value=False)))

        for table, first in only(pl.col("log_offset") == 1).by_table.items():
            await replacement.delete(connection, PARTITION, table, first)
        same(await take(connection, Place(PARTITION, *DAY)), only(pl.col("log_offset") > 1))
        with pytest.raises(ReplacementError, match="2 rows of event_items are to go"):
            await replacement.delete(connection, PARTITION, "event_items", SENT.items[:2])
        of_one = Place(PARTITION, *DAY, merchant_id=8)
        with pytest.raises(ReplacementError, match="2 rows of events are to go"):
            await replacement.clear(connection, of_one, "events", SENT.events[1:])


async def test_all_that_stands_at_a_place_goes(shard: str) -> None:
    async with trial(shard, REPLAY_SETTINGS) as connection:
        await replacement.prepare(connection, PARTITION)
        await replacement.insert(connection, SENT)
        two = Place(PARTITION, *DAY, first_offset=2, end_offset=4)
        for table, later in only(pl.col("log_offset") > 1).by_table.items():
            await replacement.clear(connection, two, table, later)
        same(await take(connection, Place(PARTITION, *DAY)), only(pl.col("log_offset") == 1))


async def test_rows_of_a_partition_are_replaced_by_one_at_a_time(shard: str) -> None:
    pool = await open_pool(shard, REPLAY_SETTINGS, size=1)
    async with pool.acquire() as connection, connection.transaction():
        await replacement.prepare(connection, PARTITION)
        assert await _held(connection) == 1
    await pool.close()


async def _held(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1", PARTITION
    )
    return found
