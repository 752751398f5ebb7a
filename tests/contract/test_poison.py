"""A poison event harms nobody behind it: not over HTTP, not in the spool, not on the topic."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from api import publish, spool
from api.publish import Publisher
from api.spool import Spool, records_of
from background.supervisor import FAILURES, Supervisor
from footfall.doctor import examine
from footfall.environment import Environment
from footfall.topic import ensure_topic, settings_of
from tests.conftest import World
from tests.service import Service, page_view


def with_limit(world: World, count: int) -> None:
    """The topic takes batches of so many bytes from here on."""
    resource = ConfigResource(
        ConfigResource.Type.TOPIC,
        world.topic,
        incremental_configs=[
            ConfigEntry(
                "max.message.bytes", str(count), incremental_operation=AlterConfigOpType.SET
            )
        ],
    )
    admin = AdminClient({"bootstrap.servers": world.bootstrap})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()


def incompressible(count: int) -> bytes:
    """An event of so many bytes that zstd does not make smaller than the topic's limit."""
    letters = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(count // 3))
    return json.dumps({"event": "large", "padding": letters}, ensure_ascii=False).encode()


async def drained(publisher: Publisher) -> None:
    """Until nothing is spooled."""
    async with asyncio.timeout(30):
        while publisher.spool.pending:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.05)


async def test_an_event_that_the_log_refuses_leaves_the_others_their_way(
    world: World, tmp_path: Path
) -> None:
    with_limit(world, 100_000)
    large, small = incompressible(300_000), b'{"event":"small"}'
    async with Supervisor() as supervisor:
        publisher = Publisher(world.bootstrap, world.topic, {}, tmp_path, supervisor)
        refused = await publisher.publish([(b"1", small), (b"1", large), (b"1", small)])
        assert [each.index for each in refused] == [1]
        assert "large" in refused[0].reason.lower()
        assert not publisher.spool.pending
    await publisher.close()


async def test_what_the_log_refuses_does_not_stop_the_spool(world: World, tmp_path: Path) -> None:
    with_limit(world, 100_000)
    large = incompressible(300_000)
    small = [b'{"event":"small_%d"}' % number for number in range(20)]
    left = Spool.take(tmp_path)
    await left.append([(b"1", small[0]), (b"1", large), *((b"2", each) for each in small[1:])])
    left.close()
    async with Supervisor() as supervisor:
        publisher = Publisher(world.bootstrap, world.topic, {}, tmp_path, supervisor)
        await drained(publisher)
        assert supervisor.health["spool_drain"].failures == 0
        assert publisher.spool.dead_letters.read_bytes() == large + b"\n"
    await publisher.close()


async def test_larger_than_the_producer_takes_is_refused_alone(
    world: World, tmp_path: Path
) -> None:
    """librdkafka raises for it at once, which once ended the drain for good."""
    async with Supervisor() as supervisor:
        publisher = Publisher(world.bootstrap, world.topic, {}, tmp_path, supervisor)
        refused = await publisher.publish([(b"1", b"x" * 1_200_000), (b"1", b"{}")])
        assert [each.index for each in refused] == [0]
    await publisher.close()


@pytest.mark.parametrize("task", ["producer_poll", "spool_drain"])
async def test_a_publishers_task_that_fails_runs_again_and_the_spool_drains(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    left = Spool.take(tmp_path)
    await left.append([(b"1", b"{}")])
    left.close()
    before = FAILURES.labels(task)._value.get()
    failing = "_poll" if task == "producer_poll" else "_drain_segment"
    whole: Any = getattr(Publisher, failing)
    calls = 0

    async def fails_once(self: Publisher, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("injected")
        return await whole(self, *given)

    monkeypatch.setattr(Publisher, failing, fails_once)
    async with Supervisor(retry_s=(0.01,)) as supervisor:
        publisher = Publisher(world.bootstrap, world.topic, {}, tmp_path, supervisor)
        await drained(publisher)
        assert supervisor.health[task].failures == 1
        assert "injected" in str(supervisor.health[task].error)
    assert FAILURES.labels(task)._value.get() == before + 1
    await publisher.close()


def test_migrate_raises_a_topics_limit_and_doctor_says_when_it_is_low(world: World) -> None:
    def findings() -> list[tuple[bool, str]]:
        environment = Environment.read(world.environment)
        return [
            (each.ok, f"{each.cause} {each.command}")
            for each in asyncio.run(examine(environment))
            if each.part == "log"
        ]

    with_limit(world, 100_000)
    ((well, advice),) = findings()
    assert not well
    assert "max.message.bytes is 100000" in advice
    assert "footfall migrate" in advice
    ensure_topic(world.bootstrap, world.topic, 4, {})
    admin = AdminClient({"bootstrap.servers": world.bootstrap})
    assert settings_of(admin, world.topic)["max.message.bytes"] == str(2 << 20)
    assert [each for each, _ in findings()] == [True]


@pytest.mark.parametrize("form", ["list", "envelope", "NDJSON", "single"])
@pytest.mark.parametrize(
    "broken",
    [
        b'{"event":"page_view","visitor_id":"\\ud83c"}',
        b'{"event":"page_view","visitor_id":"v","properties":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        b'{"event":"page_view","visitor_id":"v","value":"1.' + b"0" * 1_050_000 + b'"}',
    ],
    ids=["half an emoji", "3000 deep", "a megabyte of zeros"],
)
def test_one_broken_event_is_one_rejection(
    service: Service, shop: int, form: str, broken: bytes
) -> None:
    good = json.dumps(page_view()).encode()
    headers = {}
    match form:
        case "list":
            body, bad, accepted = b"[" + b",".join([good, broken, good]) + b"]", 1, 2
        case "envelope":
            body, bad, accepted = b'{"events":[' + b",".join([broken, good]) + b"]}", 0, 1
        case "NDJSON":
            body, bad, accepted = b"\n".join([good, broken]), 1, 1
            headers = {"Content-Type": "application/x-ndjson"}
        case _:
            body, bad, accepted = broken, 0, 0
    answer = service.call(
        "POST", "/v1/events", key=service.key(shop), content=body, headers=headers
    )
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["accepted"] == accepted
    assert [each["index"] for each in told["rejected"]] == [bad]
    assert told["rejected"][0]["detail"]


def test_ten_thousand_small_requests_are_one_spooled_file(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        kept = Spool.take(tmp_path)
        for _ in range(10):
            await asyncio.gather(*(kept.append([(b"1", b"{}")]) for _ in range(1_000)))
        segment = kept.oldest()
        assert segment is not None
        assert len(list(records_of(segment))) == 10_000
        kept.close()

    asyncio.run(work())
    assert len(list(tmp_path.rglob("*.segment"))) == 1
    assert spool.SEGMENT_BYTES == publish.DRAIN_BYTES * 4
