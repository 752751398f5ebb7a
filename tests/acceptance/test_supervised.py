"""A background task of the ingester that fails is started again, and every event counts once."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from prometheus_client import REGISTRY

from background.supervisor import TaskHealth
from background.telemetry import serve_telemetry
from events.batch import Messages
from footfall.environment import Environment
from ingester import consume, lane, pipeline
from ingester.consume import TopicReader, as_columns
from ingester.lane import Lane
from ingester.load import Loader
from ingester.pipeline import Pipeline
from ingester.placement import NOWHERE, Placement
from tests import oracle
from tests.conftest import World
from tests.processes import footfall, free_port, wait_until
from tests.service import FIREFOX

COUNT = 3_000

# For each task, what fails once within it.
INJECTED: dict[str, tuple[Any, str]] = {
    "process": (lane, "process"),
    "load": (Loader, "load"),
    "read": (TopicReader, "read"),
    "heartbeat": (TopicReader, "log_ends"),
    "topic_check": (TopicReader, "current_topic"),
    "map_check": (Placement, "read"),
    "refresh": (pipeline, "refresh_late"),
    "shard_watch": (pipeline, "watch_shard"),
    "progress": (pipeline, "check_progress"),
}


def page_views(merchant: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    now = int(time.time() * 1000)
    return [
        (
            str(merchant).encode(),
            json.dumps(
                {
                    "merchant_id": merchant,
                    "event": "page_view",
                    "event_id": f"e-{number}",
                    "timestamp": now,
                    "visitor_id": f"v-{number % 50}",
                    "user_agent": FIREFOX,
                }
            ).encode(),
        )
        for number in range(first, first + COUNT)
    ]


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Pipeline]:
    """An ingester within this process."""
    own = Pipeline(Environment.read(world.environment).ingest_settings())
    task = asyncio.create_task(own.run())
    try:
        yield own
    finally:
        own.stop()
        await asyncio.wait_for(task, 60)


def stored(world: World, merchants: list[int]) -> int:
    total = 0
    for dsn in world.shards:
        with psycopg.connect(dsn) as connection:
            asked = "SELECT count(*) FROM events WHERE merchant_id = ANY (%s)"
            row = connection.execute(asked, (merchants,)).fetchone()
            total += row[0] if row else 0
    return total


async def until(true: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, otherwise()
        await asyncio.sleep(0.1)


def failing_once(whole: Any, after: int) -> tuple[Any, list[int]]:
    """The same function, which raises once, when it has been called so often."""
    calls = [0]

    def due() -> None:
        calls[0] += 1
        if calls[0] == after + 1:
            raise RuntimeError("injected")

    async def awaited(*given: Any, **named: Any) -> Any:
        due()
        return await whole(*given, **named)

    def called(*given: Any, **named: Any) -> Any:
        due()
        return whole(*given, **named)

    return (awaited if asyncio.iscoroutinefunction(whole) else called), calls


@pytest.mark.parametrize("task", INJECTED)
async def test_a_task_that_fails_is_seen_and_runs_again_and_every_event_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    merchants = world.merchants(4)
    owner, name = INJECTED[task]
    monkeypatch.setattr(pipeline, "TOPIC_CHECK_S", 0.2)
    # Placement and readers are used before the tasks start: those calls must go well.
    replacement, calls = failing_once(
        getattr(owner, name), 3 if task in {"read", "map_check"} else 1
    )
    monkeypatch.setattr(owner, name, replacement)
    async with running(world) as ingester:
        for merchant in merchants:
            world.write(iter(page_views(merchant)))

        def seen() -> bool:
            health = ingester.supervisor.health
            return any(
                each.failures and "injected" in str(each.error)
                for named, each in health.items()
                if named.startswith(task)
            )

        await until(seen, 60, lambda: f"no failure of {task}: {ingester.supervisor.health}")
        before = calls[0]
        for merchant in merchants:
            world.write(iter(page_views(merchant, COUNT)))
        wanted = 2 * COUNT * len(merchants)
        await until(
            lambda: stored(world, merchants) >= wanted,
            90,
            lambda: f"{stored(world, merchants)} of {wanted}: {ingester.supervisor.health}",
        )
        await until(lambda: calls[0] > before, 60, lambda: f"{task} did not run again")
        named = {
            each.rpartition("_")[0] if each[-1].isdigit() else each
            for each in ingester.supervisor.health
        }
        assert named == set(INJECTED), "each background task is tested here"
        failures = REGISTRY.get_sample_value(
            "footfall_task_failures_total",
            {"task": next(n for n, e in ingester.supervisor.health.items() if e.failures)},
        )
        assert failures is not None
        assert failures >= 1
    truth = oracle.truth(world.bootstrap, world.topic)
    assert len(truth.rows) == wanted
    assert stored(world, merchants) == wanted
    with psycopg.connect(world.shards[0]) as connection:
        twice = connection.execute(
            "SELECT kafka_partition, log_offset FROM events WHERE merchant_id = ANY (%s) "
            "GROUP BY 1, 2 HAVING count(*) > 1",
            (merchants,),
        ).fetchall()
    assert twice == []


def test_health_and_metrics_say_which_tasks_run(world: World) -> None:
    port = free_port()
    environment = world.environment | {"FOOTFALL_TELEMETRY_PORT": str(port)}
    with footfall("ingest", environment=environment) as process:
        process.wait_for("ingesting")
        answer = httpx.get(f"http://127.0.0.1:{port}/health")
        assert answer.status_code == 200
        assert {"read", "heartbeat", "load_0", "load_1"} <= set(answer.json()["tasks"])
        told = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'footfall_task_running{task="read"} 1.0' in told


def test_a_failing_task_makes_health_say_so() -> None:
    port = free_port()
    serve_telemetry(port, "127.0.0.1", lambda: {"load_0": TaskHealth("failing", 2, "injected")})
    answer = httpx.get(f"http://127.0.0.1:{port}/health")
    assert answer.status_code == 503
    assert answer.json()["tasks"]["load_0"] == {
        "state": "failing",
        "failures": 2,
        "last_error": "injected",
    }


class FakeMessage:
    """A message with the metadata that a producer or broker may give it."""

    def __init__(self, value: bytes | None, timestamp: int) -> None:
        self._value, self._timestamp = value, timestamp

    def value(self) -> bytes | None:
        return self._value

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, self._timestamp


@pytest.mark.parametrize(
    "timestamp", [-1, 0, -(2**63), 2**63 - 1, 1_795_000_000_000_000, 253_402_300_800_000]
)
def test_a_log_time_of_any_value_is_read(timestamp: int) -> None:
    messages = as_columns([FakeMessage(b"{}", timestamp)])  # type: ignore[list-item]  # as one
    (bounded,) = messages.logged_ms.tolist()
    assert 0 <= bounded < 4_200_000_000_000


def test_a_partition_that_no_map_names_is_nowhere() -> None:
    placement = Placement([], "events")
    placement._map = {0: 0, 1: 0}
    placement._lay_out()
    found = placement.shards_of(np.array([0, 7, 1, 2], np.int32)).tolist()
    assert found == [0, NOWHERE, 0, NOWHERE]


def test_large_messages_make_small_batches() -> None:
    settings = Environment.read(
        {"FOOTFALL_KAFKA_BOOTSTRAP": "x", "FOOTFALL_SHARDS": "x"}
    ).ingest_settings()
    waiting = Lane.__new__(Lane)
    waiting._settings = settings
    waiting.pending, waiting.pending_bytes = [], 0
    megabyte = Messages(
        [b"x" * 1_000_000] * 10,
        np.zeros(10, np.int32),
        np.arange(10, dtype=np.int64),
        np.full(10, 1_790_000_000_000, np.int64),
    )
    for _ in range(3):
        waiting.add(megabyte)
    assert not waiting.is_full
    waiting.add(megabyte)
    assert waiting.is_full  # 40 messages, 40 megabytes
    assert len(waiting.take()) == 40
    assert waiting.pending_bytes == 0
    assert settings.batch_bytes >= consume.AT_ONCE_BYTES


POISON = [
    b'{"merchant_id":1,"event":"page_view","visitor_id":"v","x":"\\ud83d","properties":{"a":1}}',
    '{"merchant_id":1,"event":"page_view","visitor_id":"v","value":"١٩","currency":"EUR"}'.encode(),
    b"\xff\xfe",
    b"",
    b"[" * 5_000,
]


def test_poison_on_a_topic_with_producers_clocks_ends_no_ingester(world: World) -> None:
    wanted = {"message.timestamp.type": "CreateTime"}
    wanted |= {f"message.timestamp.{way}.max.ms": str(2**63 - 1) for way in ("after", "before")}
    changes = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in wanted.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, world.topic, incremental_configs=changes)
    admin = AdminClient({"bootstrap.servers": world.bootstrap})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()
    (merchant,) = world.merchants(1)
    producer = Producer({"bootstrap.servers": world.bootstrap, "partitioner": "murmur2_random"})
    errors: list[Any] = []
    sent = 0
    now = int(time.time() * 1000)
    for at in (now, 0, 1_795_000_000_000_000):
        for value in POISON:
            producer.produce(
                world.topic,
                value,
                str(merchant).encode(),
                timestamp=at,
                headers={"h": b"\xff"},
                on_delivery=lambda error, _: errors.append(error),
            )
            sent += 1
    producer.flush()
    assert set(errors) == {None}
    with footfall("ingest", environment=world.environment) as process:
        world.write(iter(page_views(merchant)))
        wait_until(lambda: stored(world, [merchant]) >= COUNT, 60, "\n".join(process.lines[-10:]))

        def rejected() -> int:
            total = 0
            for dsn in world.shards:
                with psycopg.connect(dsn) as connection:
                    row = connection.execute(
                        "SELECT sum(rejects + event_rows)::int8 FROM ingest_batch WHERE topic_id = "
                        "(SELECT topic_id FROM ingest_offset WHERE topic = %s LIMIT 1)",
                        (world.topic,),
                    ).fetchone()
                    total += (row[0] or 0) if row else 0
            return total

        wait_until(lambda: rejected() == COUNT + sent, 30, f"{rejected()} of {COUNT + sent}")
        assert process.lines
        assert not any("background_task_failed" in line for line in process.lines)
