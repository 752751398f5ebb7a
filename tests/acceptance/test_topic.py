"""A topic that is not as it must be, or does not stay so, is noticed before it costs an event."""

import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from confluent_kafka import KafkaException, Producer, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)
from confluent_kafka.cimpl import NewTopic

from db.migrate import migrate
from footfall.topic import ensure_topic, settings_of
from tests.acceptance.test_supervised import page_views
from tests.conftest import PARTITIONS, World
from tests.history import applied, one, own_world
from tests.processes import footfall, wait_until


@pytest.fixture
def alone(bootstrap: str) -> Iterator[World]:
    """A topic and a database that nothing else uses."""
    with own_world(bootstrap, f"topic.{uuid.uuid4().hex[:8]}") as world:
        yield world


def admin(world: World) -> AdminClient:
    return AdminClient({"bootstrap.servers": world.bootstrap})


def test_a_new_topic_is_mapped_as_a_whole(bootstrap: str) -> None:
    for _ in range(10):
        topic = f"new.{uuid.uuid4().hex[:8]}"
        assert ensure_topic(bootstrap, topic, 12, {}) == 12


def test_migrate_refuses_partitions_that_changed(alone: World) -> None:
    for changed in (0, PARTITIONS - 1, PARTITIONS + 1):
        with pytest.raises(
            ValueError, match=f"{changed} partitions and the shard map {PARTITIONS}"
        ):
            migrate(alone.shards, changed)
    migrate(alone.shards, PARTITIONS)


def test_partitions_that_are_added_end_the_ingester_with_a_reason(alone: World) -> None:
    (merchant,) = alone.merchants(1)
    with footfall("ingest", environment=alone.environment) as process:
        process.wait_for("ingesting")
        alone.write(iter(page_views(merchant)))
        wait_until(lambda: applied(alone) == 3_000, 30, "\n".join(process.lines))
        grown = [NewPartitions(alone.topic, PARTITIONS + 4)]
        client = admin(alone)
        for done in client.create_partitions(grown).values():
            done.result()
        time.sleep(1)
        alone.write(iter(page_views(merchant, 3_000)))
        assert process.end(60) == 1
        told = "\n".join(process.lines)
        assert f"has {PARTITIONS + 4} partitions and the shard map {PARTITIONS}" in told
        assert "FootfallPartitionHalted" in told
    with footfall("ingest", environment=alone.environment) as process:
        assert process.end(60) == 1
    with footfall("migrate", environment=alone.environment) as process:
        assert process.end(60) == 1
        assert "partitions and the shard map" in "\n".join(process.lines)


def test_an_event_in_a_partition_not_its_merchants_is_a_reject(alone: World) -> None:
    (merchant,) = alone.merchants(1)
    producer = Producer({"bootstrap.servers": alone.bootstrap})
    (_, good), *_ = page_views(merchant)
    for partition in range(PARTITIONS):
        producer.produce(alone.topic, good, str(merchant).encode(), partition)
    producer.flush()
    with footfall("ingest", environment=alone.environment) as process:
        wait_until(lambda: applied(alone) == PARTITIONS, 30, "\n".join(process.lines))
    dsn = alone.shards[0]
    assert one(dsn, "SELECT count(*) FROM events") == 1
    wrong = "SELECT count(*) FROM rejected_event WHERE reason = 'wrong_partition'"
    assert (
        one(dsn, f"{wrong} AND merchant_id = %s AND detail LIKE '%%murmur2%%'", merchant)
        == PARTITIONS - 1
    )


def test_migrate_mends_a_topic_that_producers_date_or_that_is_compacted(alone: World) -> None:
    topic = f"wrong.{uuid.uuid4().hex[:8]}"
    wrong = {"message.timestamp.type": "CreateTime", "cleanup.policy": "compact"}
    client = admin(alone)
    for made in client.create_topics([NewTopic(topic, PARTITIONS, config=wrong)]).values():
        made.result()
    assert ensure_topic(alone.bootstrap, topic, PARTITIONS, {}) == PARTITIONS
    time.sleep(0.5)
    settings = settings_of(client, topic)
    assert settings["message.timestamp.type"] == "LogAppendTime"
    assert settings["cleanup.policy"] == "delete"


def test_a_topic_that_is_made_compacted_is_not_read(alone: World) -> None:
    change = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, alone.topic, incremental_configs=[change])
    client = admin(alone)
    for done in client.incremental_alter_configs([resource]).values():
        done.result()
    with footfall("ingest", environment=alone.environment) as process:
        assert process.end(60) == 1
        told = "\n".join(process.lines)
        assert "cleanup.policy" in told
        assert "footfall migrate" in told


def test_ends_of_transactions_hold_up_nothing(alone: World) -> None:
    (merchant,) = alone.merchants(1)
    producer = Producer(
        {"bootstrap.servers": alone.bootstrap, "transactional.id": uuid.uuid4().hex}
    )
    producer.init_transactions()
    messages = page_views(merchant)[:20]
    with footfall("ingest", environment=alone.environment) as process:
        process.wait_for("ingesting")
        for number, (key, value) in enumerate(messages):
            producer.begin_transaction()
            producer.produce(alone.topic, value, key)
            producer.flush()
            if number % 5 == 4:
                producer.abort_transaction()
            else:
                producer.commit_transaction()
        written_at = datetime.now(UTC)
        dsn = alone.shards[0]
        wait_until(lambda: one(dsn, "SELECT count(*) FROM events") == 16, 30, "not all are stored")

        def fresh() -> bool:
            found = one(dsn, "SELECT min(applied_until) FROM ingest_offset")
            return bool(found is not None and found > written_at + timedelta(seconds=1))

        wait_until(fresh, 15, f"{one(dsn, 'SELECT max(next_offset) FROM ingest_offset')}")
    assert one(dsn, "SELECT max(next_offset) FROM ingest_offset") == 40
    assert one(dsn, "SELECT sum(messages)::int8 FROM ingest_batch") == 16
    with psycopg.connect(dsn) as connection:
        gaps = connection.execute(
            "SELECT * FROM (SELECT start_offset, lag(end_offset) OVER "
            "(PARTITION BY kafka_partition ORDER BY start_offset) AS before FROM ingest_batch) "
            "AS each WHERE before <> start_offset"
        ).fetchall()
    assert gaps == []


def test_a_topic_that_is_made_anew_is_read_on_by_its_runbook(alone: World) -> None:
    """Nothing of it is taken for the old one's, and what the runbook says ends with all events
    counted once, also those without an id."""
    (merchant,) = alone.merchants(1)

    def some(first: int, count: int) -> Iterator[tuple[bytes, bytes]]:
        for number in range(first, first + count):
            event = {"merchant_id": merchant, "event": "page_view", "visitor_id": f"v-{number}"}
            yield str(merchant).encode(), json.dumps(event).encode()

    dsn = alone.shards[0]
    with footfall("ingest", environment=alone.environment) as process:
        process.wait_for("ingesting")
        alone.write(some(0, 100))
        wait_until(lambda: one(dsn, "SELECT count(*) FROM events") == 100, 30, "they are missing")
        client = admin(alone)
        for deleted in client.delete_topics([alone.topic]).values():
            deleted.result()
        wait_until(lambda: made_again(alone), 30, "the topic cannot be made")
        alone.write(some(100, 250))  # beyond where the old one was read to
        assert process.end(60) == 1
        assert "was re-created" in "\n".join(process.lines)
    assert one(dsn, "SELECT count(*) FROM events") == 100
    with footfall("ingest", environment=alone.environment) as process:
        halted = "SELECT count(*) FROM ingest_offset WHERE halted_reason LIKE '%%re-created%%'"
        wait_until(lambda: one(dsn, halted) == PARTITIONS, 60, "\n".join(process.lines))
    found = client.describe_topics(TopicCollection([alone.topic]))[alone.topic].result()
    with psycopg.connect(dsn) as connection:  # as the runbook says
        connection.execute(
            "UPDATE ingest_offset SET topic_id = %s, next_offset = 0, halted_reason = NULL "
            "WHERE topic = %s",
            (str(found.topic_id), alone.topic),
        )
    with footfall("ingest", environment=alone.environment) as process:
        wait_until(lambda: one(dsn, "SELECT count(*) FROM events") >= 350, 60, "they are missing")
        time.sleep(2)
    assert one(dsn, "SELECT count(*) FROM events") == 350
    assert one(dsn, "SELECT count(DISTINCT visitor) FROM events") == 350


def made_again(world: World) -> bool:
    try:
        return ensure_topic(world.bootstrap, world.topic, PARTITIONS, {}) == PARTITIONS
    except KafkaException:
        return False
