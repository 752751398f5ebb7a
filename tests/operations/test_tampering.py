"""Whatever is altered behind Footfall's back, `reprocess verify` finds it and repairs it from the
log."""

import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from footfall.simulate import DAY_MS, Shops
from tests.conftest import World
from tests.history import days, differences, everything, ingest, own_world, reprocess

LEDGER = """
SELECT kafka_partition, min(start_offset), max(end_offset), sum(end_offset - start_offset)::int8,
       sum(messages)::int8, sum(event_rows)::int8, sum(item_rows)::int8, sum(rejects)::int8,
       sum(duplicates)::int8
  FROM ingest_batch GROUP BY kafka_partition ORDER BY kafka_partition
"""
WINDOW = days(-5, 2)
A_DAY_OLD = "ts < now() - INTERVAL '1 day'"
AN_ORDER = (
    "(merchant_id, order_id) = (SELECT merchant_id, order_id FROM first_order "
    f"WHERE {A_DAY_OLD} ORDER BY ts LIMIT 1)"
)
# The busiest partition's line in the middle.
A_LINE = (
    "(kafka_partition, start_offset) = (SELECT kafka_partition, start_offset FROM ingest_batch "
    "WHERE event_rows > 0 ORDER BY messages DESC LIMIT 1)"
)
TAMPERED = {
    "a row is deleted": [
        (
            "DELETE FROM events WHERE log_offset = (SELECT min(log_offset) FROM events "
            f"WHERE {A_DAY_OLD})"
        )
    ],
    "a row is altered": [
        f"UPDATE events SET page = '/altered' WHERE {A_DAY_OLD} AND event = 'page_view'"
    ],
    "a row is doubled": [
        f"INSERT INTO events SELECT * FROM events WHERE {A_DAY_OLD} ORDER BY ts LIMIT 5"
    ],
    "items are deleted": [f"DELETE FROM event_items WHERE {A_DAY_OLD}"],
    "rejects are deleted": ["DELETE FROM rejected_event"],
    "duplicates are deleted": ["DELETE FROM duplicate_event"],
    "a line of the ledger is deleted": [f"DELETE FROM ingest_batch WHERE {A_LINE}"],
    "the ledger is deleted": ["DELETE FROM ingest_batch"],
    "a line of the ledger is altered": [
        f"UPDATE ingest_batch SET event_rows = event_rows - 1, rejects = rejects + 1 WHERE {A_LINE}"
    ],
    "an order is forgotten": [f"DELETE FROM first_order WHERE {AN_ORDER}"],
    "an order is named otherwise": [
        f"UPDATE first_order SET log_offset = log_offset + 1 WHERE {AN_ORDER}"
    ],
    "an order's precedence is altered": [f"UPDATE first_order SET precedence = 3 WHERE {AN_ORDER}"],
    "an order does not count": [
        f"UPDATE {table} SET counted = false WHERE event = 'purchase' AND {A_DAY_OLD}"
        for table in ("events", "event_items")
    ],
    "all purchases count": [
        f"UPDATE {table} SET counted = true WHERE event = 'purchase' AND {A_DAY_OLD}"
        for table in ("events", "event_items")
    ],
    "the offset is set back": ["UPDATE ingest_offset SET next_offset = next_offset - 3"],
    "the last line and its rows are deleted": [
        "DELETE FROM events WHERE ts >= now() - INTERVAL '2 hours'",
        (
            "DELETE FROM ingest_batch AS line WHERE end_offset = (SELECT max(end_offset) "
            "FROM ingest_batch AS other WHERE other.kafka_partition = line.kafka_partition)"
        ),
    ],
}


@pytest.fixture(scope="module")
def stored(bootstrap: str) -> Iterator[World]:
    """Some days of shops, with orders, items, rejects and duplicates, in two batches and more."""
    with own_world(bootstrap, f"tampered.{uuid.uuid4().hex[:8]}") as world:
        merchants = world.merchants(3)
        now = int(time.time() * 1000)
        shops = Shops(merchants, 5)
        messages = list(shops.messages(2_000, now - 3 * DAY_MS, now))
        order = [value for value in messages if b'"purchase"' in value[1]][:3]
        sent = 0
        for part in (messages[:1_000], messages[1_000:], messages[:20], [(b"1", b"{}")] * 3, order):
            sent += world.write(iter(part))
            ingest(world, sent)
        again = [
            (key, value.replace(b'"event_id":"', b'"event_id":"again-')) for key, value in order
        ]
        ingest(world, sent + world.write(iter(again)))
        yield world


@pytest.mark.parametrize("kind", TAMPERED)
def test_it_is_found_and_repaired(stored: World, kind: str) -> None:
    before, ledger = everything(stored), ledger_of(stored)
    assert reprocess(stored, "verify", *WINDOW, "--json")["agrees"]
    with psycopg.connect(stored.shards[0]) as connection:
        changed = [connection.execute(statement).rowcount for statement in TAMPERED[kind]]
    assert max(changed) > 0
    found = reprocess(stored, "verify", *WINDOW, "--json", code=1)
    assert not found["agrees"]
    assert reprocess(stored, "verify", *WINDOW, "--repair", "--json")["agrees"]
    assert differences(everything(stored), before) == []
    assert ledger_of(stored) == ledger


def ledger_of(world: World) -> list[tuple[int, ...]]:
    with psycopg.connect(world.shards[0]) as connection:
        return connection.execute(LEDGER).fetchall()
