"""A real collector, and Kafka away in the middle: every line arrives, and counts once."""

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from events.partitions import partition_of
from footfall.topic import ensure_topic
from stack.broker import Broker
from tests.conftest import PARTITIONS, World
from tests.oracle import messages_of
from tests.processes import ROOT, footfall, wait_until
from tests.service import page_view

MODULES = [Path("/usr/lib/x86_64-linux-gnu/rsyslog"), Path("/usr/lib/aarch64-linux-gnu/rsyslog")]
LINES = 400

pytestmark = pytest.mark.skipif(
    shutil.which("rsyslogd") is None or not any((m / "omkafka.so").exists() for m in MODULES),
    reason="rsyslogd with omkafka is missing (Debian: rsyslog, rsyslog-kafka)",
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of our own, to stop."""
    running = Broker(tmp_path / "kafka")
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def collector(broker: Broker, tmp_path: Path) -> Iterator[Path]:
    """rsyslogd with the file that is shipped; the folder whose logs it reads."""
    logs, buffer = tmp_path / "logs", tmp_path / "buffer"
    logs.mkdir()
    buffer.mkdir()
    ensure_topic(broker.bootstrap, "edge.events", PARTITIONS, {})
    environment = {
        "FOOTFALL_EDGE_LOGS": str(logs),
        "FOOTFALL_EDGE_BUFFER": str(buffer),
        "FOOTFALL_KAFKA_BOOTSTRAP": broker.bootstrap,
        "FOOTFALL_TOPIC": "edge.events",
    }
    with (tmp_path / "rsyslogd.log").open("w") as told:
        running = subprocess.Popen(
            ["rsyslogd", "-n", "-f", ROOT / "edge/rsyslog.conf", "-i", tmp_path / "pid"],
            env={**os.environ, **environment},
            stdout=told,
            stderr=told,
        )
        try:
            yield logs
        finally:
            running.terminate()
            running.wait(30)


def write(logs: Path, merchants: list[int], count: int) -> set[str]:
    """Lines as a service's logger appends them; their event ids."""
    ids = [uuid.uuid4().hex for _ in range(count)]
    with (logs / "shop.log").open("a") as file:
        for number, event_id in enumerate(ids):
            merchant = merchants[number % len(merchants)]
            line = page_view(merchant_id=merchant, event_id=event_id, visitor_id=f"v{number}")
            file.write(json.dumps(line) + "\n")
    return set(ids)


def logged(bootstrap: str) -> list[tuple[int, bytes, str, int]]:
    """Partition, key, event id and merchant of every message."""
    found: list[tuple[int, bytes, str, int]] = []
    for partition, _, message in messages_of(bootstrap, "edge.events"):
        value, key = json.loads(message.value() or b""), message.key()
        assert isinstance(key, bytes)
        found.append((partition, key, value["event_id"], value["merchant_id"]))
    return found


def test_every_line_arrives_though_kafka_goes_away(
    broker: Broker, collector: Path, world: World
) -> None:
    merchants = world.merchants(7)
    sent = write(collector, merchants, LINES)
    wait_until(lambda: len(logged(broker.bootstrap)) >= LINES, 60, "no line arrives")
    broker.stop()
    sent |= write(collector, merchants, LINES)
    time.sleep(4)  # long enough that the collector knows
    sent |= write(collector, merchants, LINES)
    broker.start()
    sent |= write(collector, merchants, LINES)
    wait_until(
        lambda: {event_id for _, _, event_id, _ in logged(broker.bootstrap)} == sent,
        90,
        "lines are missing",
        every=1,
    )
    for partition, key, _, merchant in logged(broker.bootstrap):
        assert key == str(merchant).encode()
        assert partition == partition_of(merchant, PARTITIONS), "another partitioner"
    environment = world.environment | {
        "FOOTFALL_KAFKA_BOOTSTRAP": broker.bootstrap,
        "FOOTFALL_TOPIC": "edge.events",
    }
    with footfall("ingest", environment=environment) as ingester:
        ingester.wait_for("ingesting")
        wait_until(lambda: counted(world, merchants) >= len(sent), 60, "not all are counted")
        time.sleep(1)
        assert counted(world, merchants) == len(sent)


def counted(world: World, merchants: list[int]) -> int:
    """Rows of these merchants in all shards."""
    total = 0
    for dsn in world.shards:
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT count(*) FROM events WHERE merchant_id = ANY (%s)", (merchants,)
            ).fetchone()
            total += row[0] if row else 0
    return total
