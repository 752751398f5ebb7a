"""A part of history: one shop alone; what cannot be made again is refused before it is touched."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from events.transform import LOGIC_VERSION
from footfall.simulate import DAY_MS, Shops
from footfall.topic import ensure_topic
from tests.conftest import PARTITIONS, World
from tests.history import differences, everything, ingest, own_world, reprocess

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = f"{TODAY - timedelta(days=1):%Y-%m-%d}"
WINDOW = ["--from", DAY, "--to", f"{TODAY:%Y-%m-%d}"]


def fill(world: World) -> tuple[list[int], int]:
    """A day of a few shops; who they are, and how many messages."""
    merchants = world.merchants(4)
    now = int(TODAY.timestamp() * 1000)
    return merchants, world.write(iter(Shops(merchants, 21).messages(1_200, now - DAY_MS, now)))


def of_merchant(found: dict[str, list[str]], merchant: int) -> dict[str, list[str]]:
    """The part of the tables that is one shop's."""
    names = ("events", "event_items", "first_order", "duplicate_event")
    return {name: [row for row in found[name] if row.startswith(f"({merchant},")] for name in names}


def test_one_shop_is_made_again_and_its_history_told(bootstrap: str) -> None:
    name = f"part.{uuid.uuid4().hex[:8]}"
    with own_world(bootstrap, name) as right:
        merchants, sent = fill(right)
        ingest(right, sent)
        wanted = everything(right)
    chosen, *others = merchants
    with own_world(bootstrap, name) as world:
        world.merchants(4)
        ingest(world, sent, "bots")
        before = everything(world)
        words = ["--merchant", str(chosen), "--reason", "robots were people"]
        told = reprocess(world, "run", *WINDOW, *words, "--yes", "--json")
        assert told["rows_changed"] > 0
        after = everything(world)
        assert differences(of_merchant(after, chosen), of_merchant(wanted, chosen)) == []
        for other in others:
            assert differences(of_merchant(after, other), of_merchant(before, other)) == []
        history = reprocess(world, "status", "--merchant", str(chosen), "--day", DAY, "--json")
        bots = next(line for line in history if line["measure"] == "bots")
        assert (bots["before"], bots["logic_before"]) == (0, 0)
        assert bots["logic_version"] == LOGIC_VERSION
        assert bots["after"] > 0
        assert bots["reason"] == "robots were people"
        assert reprocess(world, "status", "--merchant", str(others[0]), "--json") == []
        assert reprocess(world, "verify", *WINDOW, "--merchant", str(chosen), "--json")["agrees"]
        rest = reprocess(world, "run", *WINDOW, "--logic-version", "1", "--yes", "--json")
        assert rest["rows_changed"] > 0
        assert differences(everything(world), wanted) == []
        nothing = reprocess(world, "plan", *WINDOW, "--logic-version", "1", "--json")
        assert nothing["slices"] == []


def test_what_the_log_can_no_longer_tell_is_refused(bootstrap: str) -> None:
    with own_world(bootstrap, f"gone.{uuid.uuid4().hex[:8]}") as world:
        _, sent = fill(world)
        ingest(world, sent)
        before = everything(world)
        admin = AdminClient({"bootstrap.servers": bootstrap})
        policy(admin, world.topic, "compact,delete")
        assert "cleanup.policy" in reprocess(world, "run", *WINDOW, "--yes", code=1)
        policy(admin, world.topic, "delete")
        with psycopg.connect(world.shards[0]) as connection:
            ends = connection.execute(
                "SELECT kafka_partition, next_offset FROM ingest_offset"
            ).fetchall()
        places = [TopicPartition(world.topic, partition, end) for partition, end in ends]
        for deleted in admin.delete_records(places).values():
            deleted.result()
        assert "have left the log" in reprocess(world, "run", *WINDOW, "--yes", code=1)
        admin.delete_topics([world.topic])[world.topic].result()
        deadline = time.monotonic() + 30
        while world.topic in admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline, "the topic is not gone"
            time.sleep(0.2)
        ensure_topic(bootstrap, world.topic, PARTITIONS, {})
        assert "another topic" in reprocess(world, "run", *WINDOW, "--yes", code=1)
        assert differences(everything(world), before) == []


def policy(admin: AdminClient, topic: str, value: str) -> None:
    """How the broker drops old messages of a topic."""
    entry = ConfigEntry("cleanup.policy", value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result()
