"""Broker, database and API go away and come back: what was promised is counted, once."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from db.migrate import migrate
from footfall.topic import ensure_topic
from stack.embedded import EmbeddedStack
from tests.conftest import PARTITIONS, World
from tests.processes import footfall, wait_until
from tests.service import page_view, serving


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """Servers of our own, to kill."""
    with EmbeddedStack(tmp_path / "stack") as running:
        migrate(running.shards, PARTITIONS)
        yield running


@pytest.fixture
def own_world(stack: EmbeddedStack) -> World:
    """A topic on them."""
    ensure_topic(stack.kafka_bootstrap, "outage.events", PARTITIONS, {})
    return World(stack.kafka_bootstrap, "outage.events", stack.shards)


def test_accepted_while_the_broker_is_away_means_counted_later_across_a_restart(
    stack: EmbeddedStack, own_world: World, tmp_path: Path
) -> None:
    with serving(own_world, tmp_path) as (service, process):
        shop = service.merchant()
        key = service.key(shop)
        service.send(shop, page_view(event_id="0"))
        stack.broker.kill()
        for number in range(1, 6):
            service.send(shop, page_view(event_id=str(number)))
        ready = service.call("GET", "/health/ready", key=None).json()
        assert ready["spool"] == "draining"
        process.send(signal.SIGTERM)
        process.end()
    assert list((tmp_path / "spool").rglob("*.segment"))
    stack.broker.start()
    with (
        serving(own_world, tmp_path, port=int(service.url.rsplit(":", 1)[1])) as (again, _),
        footfall("ingest", environment=own_world.environment),
    ):
        again.adopt(shop, key)
        again.send(shop, page_view(event_id="6"))
        again.wait_for_events(shop, 7, 60)
        wait_until(
            lambda: not list((tmp_path / "spool").rglob("*.segment")), 30, "the spool is not empty"
        )
        time.sleep(2)
        assert again.ask(shop, metrics=["events"], date_range="7d")["rows"] == [{"events": 7}]
    with psycopg.connect(own_world.shards[0]) as connection:
        order = connection.execute("SELECT event_id FROM events ORDER BY log_offset").fetchall()
    assert [event_id for (event_id,) in order] == [str(number) for number in range(7)]


def test_the_ingester_outlives_broker_and_database(
    stack: EmbeddedStack, own_world: World, tmp_path: Path
) -> None:
    with (
        footfall("ingest", environment=own_world.environment) as ingester,
        serving(own_world, tmp_path) as (service, _),
    ):
        ingester.wait_for("assigned")
        shop = service.merchant()
        service.send(shop, page_view(event_id="0"))
        service.wait_for_events(shop, 1)
        stack.databases[0].stop()
        service.send(shop, page_view(event_id="1"))
        away = service.call(
            "POST", "/v1/query", key=service.key(shop), json={"metrics": ["events"]}
        )
        assert (away.status_code, away.json()["code"]) == (503, "shard_away")
        assert int(away.headers["retry-after"]) > 0
        stack.databases[0].start()
        service.wait_for_events(shop, 2, 60)
        stack.broker.kill()
        stack.broker.start()
        service.send(shop, page_view(event_id="2"))
        service.wait_for_events(shop, 3, 90)
