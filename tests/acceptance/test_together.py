"""Two shards, two ingesters, an API, and events all the while: one part after the other is killed.
Nothing is lost, nothing counts twice, and whoever is not concerned is served."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.migrate import migrate
from events.partitions import partition_of
from footfall.simulate import Shops
from footfall.topic import TopicWriter, ensure_topic
from stack.embedded import EmbeddedStack
from tests import oracle
from tests.beside import Beside
from tests.conftest import PARTITIONS, World
from tests.history import applied, refreshed
from tests.processes import footfall, wait_until
from tests.service import Service, serving

HOUR_MS = 3_600_000


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """A broker and two databases of our own, to kill."""
    with EmbeddedStack(tmp_path / "stack", shards=2) as running:
        migrate(running.shards, PARTITIONS)
        yield running


class Shopping(Beside):
    """Writes events to the topic all the time, and counts what was acknowledged."""

    END_WITHIN_S = 120.0

    def __init__(self, world: World, merchants: list[int]) -> None:
        super().__init__()
        self._writer = TopicWriter(world.bootstrap, world.topic, {})
        self._shops = Shops(merchants, 31)
        self.acknowledged = 0

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._writer.flush()
        self.acknowledged = self._writer.acknowledged

    def run(self) -> None:
        """Until the end."""
        while not self.ended.is_set():
            now = int(time.time() * 1000)
            for key, value in self._shops.messages(15, now - HOUR_MS, now):
                self._writer.write(key, value)
            time.sleep(0.1)


def status(service: Service, merchant: int) -> int:
    """What a merchant's question is answered with."""
    answer = service.call(
        "POST", "/v1/query", key=service.key(merchant), json={"metrics": ["events"]}
    )
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) > 0
    return answer.status_code


def fresh(service: Service, merchant: int) -> datetime:
    """Up to when a merchant's numbers hold everything."""
    told = service.ask(merchant, metrics=["events"], date_range="today")["meta"]["fresh_as_of"]
    return datetime.fromisoformat(told) if told else datetime.min.replace(tzinfo=UTC)


def test_one_part_after_the_other_dies_under_load(stack: EmbeddedStack, tmp_path: Path) -> None:
    ensure_topic(stack.kafka_bootstrap, "together.events", PARTITIONS, {})
    world = World(stack.kafka_bootstrap, "together.events", stack.shards)
    with (
        footfall("ingest", environment=world.environment) as first,
        footfall("ingest", environment=world.environment) as second,
        serving(world, tmp_path) as (service, _),
    ):
        second.wait_for("assigned")
        merchants = [service.merchant() for _ in range(8)]
        by_shard = {partition_of(m, PARTITIONS) % 2: m for m in merchants}
        here, there = by_shard[0], by_shard[1]
        with Shopping(world, merchants) as shopping:
            wait_until(lambda: applied(world) > 500, 60, "nothing is applied")

            first.send(signal.SIGKILL)
            for merchant in (here, there):
                service.wait_until_fresh(merchant, 60)

            with footfall("ingest", environment=world.environment) as third:
                third.wait_for("assigned")
                stack.databases[1].kill()
                wait_until(lambda: status(service, there) == 503, 30, "its shard is away")
                before = fresh(service, here)
                wait_until(lambda: fresh(service, here) > before, 60, "the others stand still")
                assert status(service, there) == 503
                stack.databases[1].start()
                service.wait_until_fresh(there, 90)

                stack.broker.kill()
                assert {status(service, merchant) for merchant in merchants} == {200}
                stack.broker.start()
                for merchant in (here, there):
                    service.wait_until_fresh(merchant, 120)
        sent = shopping.acknowledged
        wait_until(lambda: applied(world) >= sent, 120, f"{applied(world)} of {sent} applied")
        wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")
    wrong = oracle.differences(
        oracle.truth(world.bootstrap, world.topic), world.shards, world.topic, merchants
    )
    assert not wrong, oracle.describe(wrong)
