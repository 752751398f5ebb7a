"""What the tests share: a broker, two migrated shards, and topics and merchants of their own."""

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from db.migrate import migrate
from footfall.topic import TopicWriter, ensure_topic
from tests import servers
from tests.keys import VISITOR_HASH_KEY

PARTITIONS = 4


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """A broker's address."""
    with servers.kafka() as address:
        yield address


@pytest.fixture(scope="session")
def shards() -> Iterator[list[str]]:
    """Two migrated databases; partitions are mapped to them round robin."""
    with servers.shards(2) as dsns:
        migrate(dsns, PARTITIONS, visitor_hash_key=VISITOR_HASH_KEY)
        yield dsns


@pytest.fixture(scope="session")
def shard(shards: list[str]) -> str:
    """The first of them, which also holds the catalogue."""
    return shards[0]


@dataclass(frozen=True, slots=True)
class World:
    """A topic and merchants that no other test uses."""

    bootstrap: str
    topic: str
    shards: list[str]

    def merchants(self, count: int, **settings: str) -> list[int]:
        """Make so many shops."""
        named = {"timezone": "UTC", "currency": "EUR", **settings}
        with psycopg.connect(self.shards[0]) as connection:
            rows = [
                connection.execute(
                    "INSERT INTO merchant (name, timezone, currency) VALUES (%s, %s, %s) "
                    "RETURNING merchant_id",
                    (f"shop {number}", named["timezone"], named["currency"]),
                ).fetchone()
                for number in range(count)
            ]
        return [int(row[0]) for row in rows if row is not None]

    def write(self, messages: Iterator[tuple[bytes, bytes | None]]) -> int:
        """Messages into the topic, acknowledged; how many."""
        writer = TopicWriter(self.bootstrap, self.topic, {})
        for key, value in messages:
            writer.write(key, value)
        writer.flush()
        return writer.acknowledged

    @property
    def environment(self) -> dict[str, str]:
        """For a process of this world."""
        return {
            "FOOTFALL_KAFKA_BOOTSTRAP": self.bootstrap,
            "FOOTFALL_TOPIC": self.topic,
            "FOOTFALL_SHARDS": " ".join(self.shards),
            "FOOTFALL_PARTITIONS": str(PARTITIONS),
            # A killed member keeps its partitions until its session ends: no need to wait long.
            "FOOTFALL_KAFKA_OPTION_SESSION_TIMEOUT_MS": "2000",
            "FOOTFALL_KAFKA_OPTION_HEARTBEAT_INTERVAL_MS": "500",
        }


_numbers = itertools.count(1)


@pytest.fixture
def world(bootstrap: str, shards: list[str]) -> World:
    """A new topic over the shared shards."""
    topic = f"events.{next(_numbers)}.{uuid.uuid4().hex[:8]}"
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    return World(bootstrap, topic, shards)
