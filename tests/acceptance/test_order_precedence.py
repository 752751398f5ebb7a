"""A public key's or a bot's purchase never costs a shop its own, in whatever order they come."""

import json
import random
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests import oracle
from tests.conftest import World
from tests.history import days, differences, everything, ingest, one, own_world, reprocess
from tests.service import FIREFOX

DAY_MS = 86_400_000
VALUES = {"server": "100.00", "public": "0.01", "bot": "7.00", "public bot": "9.00"}
RANK = ["server", "public", "bot", "public bot"]
ORDERS = 120


def purchase(merchant: int, order: int, kind: str, now: int) -> bytes:
    """A claim; a server's and a public key's of one kind have one event id and time: by whoever
    watched a page, who may be first to send them."""
    event: dict[str, Any] = {
        "merchant_id": merchant,
        "event": "purchase",
        "event_id": f"order {order} {RANK.index(kind) // 2}",
        "timestamp": now - order % 3 * DAY_MS,
        "visitor_id": f"v-{order}-{kind}",
        "order_id": f"order {order}",
        "value": VALUES[kind],
        "currency": "EUR",
        "items": [{"product_id": kind, "quantity": 1, "price": VALUES[kind]}],
        "user_agent": FIREFOX,
    }
    if "public" in kind:
        event["sent_by"] = "public_key"
    if "bot" in kind:
        event |= {"url": "https://shop.example/thanks", "user_agent": "Googlebot/2.1"}
    return json.dumps(event).encode()


@pytest.fixture(scope="module")
def disputed(bootstrap: str) -> Iterator[tuple[World, Decimal]]:
    """Orders that several claim, in any order, over three days and two runs of the ingester; and
    what people's orders come to."""
    dice = random.Random(4)
    now = int(time.time() * 1000)
    with own_world(bootstrap, f"orders.{uuid.uuid4().hex[:8]}") as world:
        merchants = world.merchants(3)
        claims = []
        revenue = Decimal(0)
        for order in range(ORDERS):
            kinds = dice.sample(RANK, dice.randrange(1, 5))
            kinds += dice.choices(kinds, k=dice.randrange(3))  # some more than once
            best = min(kinds, key=RANK.index)
            revenue += Decimal(VALUES[best]) if "bot" not in best else 0
            claims += [(merchants[order % 3], order, kind) for kind in kinds]
        dice.shuffle(claims)
        sent = 0
        for part in (claims[: len(claims) // 3], claims[len(claims) // 3 :]):
            messages = [
                (str(merchant).encode(), purchase(merchant, order, kind, now))
                for merchant, order, kind in part
            ]
            sent += world.write(iter(messages))
            ingest(world, sent)
        yield world, revenue


def test_the_best_claim_counts_live_and_in_every_rollup(
    disputed: tuple[World, Decimal],
) -> None:
    world, revenue = disputed
    truth = oracle.truth(world.bootstrap, world.topic)
    merchants = [1, 2, 3]
    wrong = oracle.differences(truth, world.shards, world.topic, merchants)
    assert wrong == [], oracle.describe(wrong)
    for rollup in ("traffic_hourly", "traffic_daily", "source_daily"):
        total = one(
            world.shards[0],
            f"SELECT sum(value_minor)::int8 FROM {rollup} WHERE event = 'purchase'",
        )
        assert Decimal(total) / 100 == revenue, rollup
    products = one(
        world.shards[0], "SELECT sum(value_minor)::int8 FROM product_daily WHERE event = 'purchase'"
    )
    assert Decimal(products) / 100 == revenue
    assert one(world.shards[0], "SELECT count(*) FROM overtaken_order") > 0
    assert one(world.shards[0], "SELECT count(*) FROM duplicate_event") > 0


def test_a_replay_decides_as_live_did(disputed: tuple[World, Decimal]) -> None:
    world, _ = disputed
    assert reprocess(world, "verify", *days(-5, 2), "--json")["agrees"]
    wanted = everything(world)
    again = reprocess(world, "run", *days(-5, 2), "--yes", "--json")
    assert again["rows_changed"] == 0
    assert differences(everything(world), wanted) == []


def test_a_replay_gives_orders_back_that_were_taken_wrongly(
    disputed: tuple[World, Decimal],
) -> None:
    """As a shard has them whose rows were stored by the logic before: the first one counts."""
    world, _ = disputed
    wanted = everything(world)
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        connection.execute("UPDATE first_order SET precedence = 0")
        connection.execute(
            "WITH first AS (SELECT DISTINCT ON (merchant_id, order_id) merchant_id, order_id, ts, "
            "log_offset FROM events ORDER BY merchant_id, order_id, log_offset) "
            "UPDATE first_order SET ts = first.ts, log_offset = first.log_offset FROM first "
            "WHERE first_order.merchant_id = first.merchant_id "
            "AND first_order.order_id = first.order_id"
        )
        for table in ("events", "event_items"):
            connection.execute(
                f"UPDATE {table} AS held SET counted = EXISTS (SELECT FROM first_order "
                "WHERE first_order.merchant_id = held.merchant_id "
                "AND first_order.log_offset = held.log_offset "
                "AND first_order.kafka_partition = held.kafka_partition)"
            )
    found = everything(world, rollups=False)
    assert found["events"] != wanted["events"]
    reprocess(world, "run", *days(-5, 2), "--yes", "--json")
    assert differences(everything(world), wanted) == []
    assert reprocess(world, "verify", *days(-5, 2), "--json")["agrees"]
