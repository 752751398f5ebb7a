"""A partition moves to another shard while it is written and read: nobody notices."""

import itertools
import json
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from events.partitions import partition_of
from footfall.simulate import DAY_MS, Shops
from footfall.topic import TopicWriter
from tests.conftest import PARTITIONS, World
from tests.history import (
    applied,
    command,
    differences,
    everything,
    ingest,
    one,
    own_world,
)
from tests.processes import footfall, script, wait_until
from tests.service import Service, page_view, serving

DIES = Path(__file__).with_name("mover_that_dies.py")
POINTS = [
    "after_opening",
    "mid_copy",
    "before_commit",
    "after_commit",
    "after_copy",
    "after_freeze",
    "after_catching_up",
    "after_release",
    "after_switch",
    "after_dropping_a_day",
    "after_dropping_days",
    "after_drop",
]
EVENTS = 2_000
SHOPS = 5


def move(world: World, partition: int, to: int, *more: str, code: int = 0) -> str:
    """`footfall shards move`; what it said."""
    words = ["--partition", str(partition), "--to", str(to), "--yes", "--grace", "0", *more]
    return str(command(world, "shards", "move", *words, code=code))


def placed(world: World, partition: int) -> int:
    """The shard that the map names."""
    asked = "SELECT shard FROM shard_map WHERE kafka_partition = %s"
    return int(one(world.shards[0], asked, partition))


def rows_in(dsn: str, partition: int) -> dict[str, int]:
    """How many rows of a partition a shard holds, by table, those that hold none left out."""
    tables = (
        "events", "event_items", "rejected_event", "duplicate_event", "first_order",
        "ingest_batch", "processed_day",
    )  # fmt: skip
    asked = "SELECT count(*)::int8 FROM {} WHERE kafka_partition = %s"
    counted = {name: int(one(dsn, asked.format(name), partition)) for name in tables}
    return {name: count for name, count in counted.items() if count}


def wanted(bootstrap: str, topic: str, messages: int) -> dict[str, list[str]]:
    """What the topic becomes where nothing was moved."""
    with own_world(bootstrap, topic) as world:
        world.merchants(SHOPS)
        ingest(world, messages)
        return everything(world)


@dataclass(frozen=True, slots=True)
class History:
    """Two shards with two days of history, what they hold in all, and the fullest partition."""

    world: World
    whole: dict[str, list[str]]
    partition: int

    def end_to_end(self) -> tuple[int, int]:
        """The shard that the partition lives in, and the other."""
        source = placed(self.world, self.partition)
        return source, 1 - source

    def is_whole_in(self, shard: int) -> None:
        """The partition lives there alone, and nothing is lost or doubled."""
        assert placed(self.world, self.partition) == shard
        assert rows_in(self.world.shards[1 - shard], self.partition) == {}
        assert differences(everything(self.world), self.whole) == []

    def kill_at(self, point: str, to: int) -> None:
        """A move that dies at a point."""
        words = [point, str(self.partition), str(to)]
        with script(DIES, *words, environment=self.world.environment) as dying:
            assert dying.end(120) == -signal.SIGKILL, "\n".join(dying.lines)


@pytest.fixture(scope="module")
def history(bootstrap: str) -> Iterator[History]:
    """One for all tests that leave it whole."""
    topic = f"moving.{uuid.uuid4().hex[:8]}"
    with own_world(bootstrap, topic, shards=2) as world:
        shops = Shops(world.merchants(SHOPS), 11)
        now = int(time.time() * 1000)
        sent = world.write(iter(shops.messages(EVENTS, now - DAY_MS, now)))
        ingest(world, sent)
        yield History(world, wanted(bootstrap, topic, sent), fullest(world))


def fullest(world: World) -> int:
    """The partition with the most rows."""
    shown = command(world, "shards", "show", "--json")
    assert [each["lag"] for each in shown] == [0] * PARTITIONS
    return int(max(shown, key=lambda each: int(each["rows"]))["partition"])


def test_killed_at_every_step_in_turn_a_move_goes_on(history: History) -> None:
    _, target = history.end_to_end()
    for point in POINTS:
        history.kill_at(point, target)
    move(history.world, history.partition, target)
    history.is_whole_in(target)


@pytest.mark.parametrize("point", ["mid_copy", "after_freeze", "after_release", "after_switch"])
def test_killed_at_a_named_point_the_next_one_goes_on(history: History, point: str) -> None:
    _, target = history.end_to_end()
    history.kill_at(point, target)
    move(history.world, history.partition, target)
    history.is_whole_in(target)


def test_a_move_that_was_called_off_leaves_nothing_behind(history: History) -> None:
    world, partition = history.world, history.partition
    source, target = history.end_to_end()
    history.kill_at("after_freeze", target)
    shown = command(world, "shards", "show", "--json")[partition]
    assert (shown["partition"], shown["shard"]) == (partition, source)
    assert shown["move"].startswith(f"copying to {target}")
    assert shown["move"].endswith("live waits")
    move(world, partition, target, "--cancel")
    history.is_whole_in(source)
    moved_to = "SELECT moved_to FROM ingest_offset WHERE kafka_partition = %s"
    assert one(world.shards[source], moved_to, partition) is None
    assert one(world.shards[target], moved_to, partition) == source
    assert "not being moved" in move(world, partition, target, "--cancel", code=1)


class Writer(threading.Thread):
    """Events of one shop into the topic, some every few moments, until it is stopped."""

    def __init__(self, world: World, shop: int) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._stopped = threading.Event()
        self._writer = TopicWriter(world.bootstrap, world.topic, {})
        self._shop = shop

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            for _ in range(20):
                self.sent += 1
                visitor, path = f"v{self.sent % 50}", self.sent % 7
                event = page_view(
                    merchant_id=self._shop,
                    event_id=f"live-{self.sent}",
                    visitor_id=visitor,
                    session_id=visitor,
                    url=f"https://shop.example/{path}",
                )
                self._writer.write(str(self._shop).encode(), json.dumps(event).encode())
            self._writer.flush()

    def stop(self) -> None:
        """Return once all is acknowledged."""
        self._stopped.set()
        self.join()
        assert self._writer.acknowledged == self.sent


TOTALS = {"metrics": ["events"], "date_range": "7d", "include": {"totals": True}}
QUESTIONS = [
    TOTALS,
    {**TOTALS, "dimensions": ["page"]},
    {**TOTALS, "dimensions": ["time:hour"], "metrics": ["events", "visitors", "sessions"]},
]


class Reader(threading.Thread):
    """Asks for one shop's count again and again; every answer must be one that was true."""

    def __init__(self, service: Service, shop: int, writer: Writer, before: int) -> None:
        super().__init__(daemon=True)
        self.answers = 0
        self.wrong: list[str] = []
        self._service, self._shop, self._writer, self._before = service, shop, writer, before
        self._stopped = threading.Event()

    def run(self) -> None:
        last = [self._before] * len(QUESTIONS)
        headers = {"Authorization": f"Bearer {self._service.key(self._shop)}"}
        with httpx.Client(base_url=self._service.url, headers=headers, timeout=60) as client:
            for number in itertools.cycle(range(len(QUESTIONS))):
                if self._stopped.wait(0.02):
                    return
                answer = client.post("/v1/query", json=QUESTIONS[number])
                if answer.status_code != 200:
                    self.wrong.append(answer.text)
                    continue
                count = int(answer.json()["totals"]["events"])
                if not last[number] <= count <= self._before + self._writer.sent:
                    self.wrong.append(f"{count} after {last[number]} of {self._writer.sent}")
                last[number] = max(last[number], count)
                self.answers += 1

    def stop(self) -> None:
        """Return once the last answer is in."""
        self._stopped.set()
        self.join()


def count(service: Service, shop: int) -> int:
    """The events of a week, as the API counts them."""
    return int(service.ask(shop, metrics=["events"], date_range="7d")["rows"][0]["events"])


def test_a_partition_moves_and_returns_while_it_is_written_and_read(
    bootstrap: str, tmp_path: Path
) -> None:
    topic = f"moving.{uuid.uuid4().hex[:8]}"
    with own_world(bootstrap, topic, shards=2) as world:
        with (
            footfall("ingest", environment=world.environment) as first,
            footfall("ingest", environment=world.environment) as second,
            serving(world, tmp_path) as (service, _),
        ):
            first.wait_for("assigned", 60)
            second.wait_for("assigned", 60)
            sent = _moved_and_returned(world, service)
        # Two worlds on one topic are one group of ingesters: the others have ended by now.
        assert differences(everything(world), wanted(bootstrap, topic, sent)) == []


def _moved_and_returned(world: World, service: Service) -> int:
    """Move a partition that is written and read there and back, then once more; all that was
    sent."""
    shops = [service.merchant() for _ in range(SHOPS)]
    shop, partition = shops[0], partition_of(shops[0], PARTITIONS)
    source = placed(world, partition)
    now = int(time.time() * 1000)
    sent = world.write(iter(Shops(shops, 12).messages(EVENTS, now - 2 * DAY_MS, now)))
    wait_until(lambda: applied(world) >= sent, 90, "the history is not in")
    service.wait_until_fresh(shop)
    writer = Writer(world, shop)
    reader = Reader(service, shop, writer, count(service, shop))
    writer.start()
    reader.start()
    wait_until(lambda: writer.sent > 200, 30, "nothing is written")
    move(world, partition, 1 - source)
    assert rows_in(world.shards[source], partition) == {}
    time.sleep(1)
    move(world, partition, source)
    assert rows_in(world.shards[1 - source], partition) == {}
    time.sleep(1)
    writer.stop()
    service.wait_until_fresh(shop)
    reader.stop()
    assert reader.wrong == []
    assert reader.answers > 50
    sent += writer.sent
    assert applied(world) == sent
    # Nobody writes now: ingesters learn of the move by themselves.
    before = count(service, shop)
    move(world, partition, 1 - source)
    service.wait_until_fresh(shop)
    assert count(service, shop) == before
    service.send(shop, page_view(event_id="last"))
    service.wait_for_events(shop, before + 1)
    service.wait_until_fresh(shop)
    return sent + 1


def test_what_the_log_cannot_make_again_is_not_moved(bootstrap: str) -> None:
    topic = f"moving.{uuid.uuid4().hex[:8]}"
    with own_world(bootstrap, topic, shards=2) as world:
        shops = world.merchants(SHOPS)
        assert "never read" in move(world, 0, 1, code=1)
        now = int(time.time() * 1000)
        ingest(world, world.write(iter(Shops(shops, 13).messages(200, now - DAY_MS, now))))
        partition = fullest(world)
        source = placed(world, partition)
        target = 1 - source
        assert "already" in move(world, partition, source, code=1)
        with psycopg.connect(world.shards[source]) as connection:
            connection.execute(
                "INSERT INTO reprocess_run SELECT gen_random_uuid(), %s, 'id', now(), now(), "
                "NULL, 1, NULL, '0', '{}', 'me', '', 'running'",
                (topic,),
            )
            connection.execute(
                "INSERT INTO reprocess_slice (run_id, kafka_partition, window_start, window_end, "
                "state) SELECT run_id, %s, now(), now(), 'pending' FROM reprocess_run",
                (partition,),
            )
        assert "replaces rows" in move(world, partition, target, code=1)
        with psycopg.connect(world.shards[source]) as connection:
            connection.execute("UPDATE reprocess_slice SET state = 'done'")
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for deleted in admin.delete_records([TopicPartition(topic, partition, 5)]).values():
            deleted.result()
        assert "have left the log" in move(world, partition, target, code=1)
        assert rows_in(world.shards[target], partition) == {}
        assert int(one(world.shards[0], "SELECT count(*) FROM shard_move")) == 0
