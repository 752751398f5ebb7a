"""Whatever is killed, at whatever moment: nothing is lost and nothing counts twice."""

import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from footfall.simulate import DAY_MS, Shops
from tests import oracle
from tests.conftest import World
from tests.processes import Process, footfall, script, wait_until

DIES = Path(__file__).with_name("ingester_that_dies.py")
POINTS = [
    "after_consume",
    "before_fence",
    "after_fence",
    "mid_copy",
    "before_commit",
    "after_commit",
]
EVENTS = 4_000
_seeds = itertools.count(1)


def send(world: World, merchants: list[int], count: int = EVENTS) -> None:
    """Events of the last two days, with retries and broken ones, into the topic."""
    now = int(time.time() * 1000)
    shops = Shops(merchants, next(_seeds))
    world.write(iter(shops.messages(count, now - 2 * DAY_MS, now)))


def applied(world: World) -> int:
    """How many messages the ledger holds."""
    total = 0
    for dsn in world.shards:
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(messages), 0)::int8 FROM ingest_batch JOIN "
                "(SELECT DISTINCT topic_id FROM ingest_offset WHERE topic = %s) AS t "
                "USING (topic_id)",
                (world.topic,),
            ).fetchone()
            total += int(row[0]) if row else 0
    return total


def refreshed(world: World) -> bool:
    """Whether every rollup has taken in all batches."""
    for dsn in world.shards:
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT max(committed_at) < (SELECT min(refreshed_at) FROM refresh_state) "
                "FROM ingest_batch"
            ).fetchone()
            if row is not None and row[0] is False:
                return False
    return True


def settle(world: World, merchants: list[int], sent: int) -> None:
    """Until everything is in, then hold it against the log."""
    wait_until(lambda: applied(world) >= sent, 90, f"{applied(world)} of {sent} applied")
    wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")
    wrong = oracle.differences(
        oracle.truth(world.bootstrap, world.topic), world.shards, world.topic, merchants
    )
    assert not wrong, oracle.describe(wrong)


@pytest.fixture
def merchants(world: World) -> list[int]:
    """Some shops."""
    return world.merchants(5)


@pytest.fixture
def ingester(world: World) -> Iterator[Process]:
    """A healthy ingester."""
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("ingesting")
        yield process


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point_the_next_one_goes_on(
    world: World, merchants: list[int], point: str
) -> None:
    send(world, merchants)
    with script(DIES, point, "1", environment=world.environment) as dying:
        assert dying.end(60) == -signal.SIGKILL, "\n".join(dying.lines)
    send(world, merchants, 500)
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("ingesting")
        settle(world, merchants, EVENTS + 500)


def test_killed_again_and_again(world: World, merchants: list[int]) -> None:
    for number, point in enumerate(("mid_copy", "after_commit", "before_commit"), 1):
        send(world, merchants, 1_000)
        with script(DIES, point, str(1 + number % 2), environment=world.environment) as dying:
            time.sleep(0.5)
            send(world, merchants, 1_000)
            dying.end(60)
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("ingesting")
        settle(world, merchants, 6_000)


def test_two_ingesters_share_the_work_and_one_takes_over(
    world: World, merchants: list[int], ingester: Process
) -> None:
    with footfall("ingest", environment=world.environment) as second:
        second.wait_for("assigned")
        send(world, merchants)
        wait_until(lambda: applied(world) > 0, 60, "nothing is applied")
        second.send(signal.SIGKILL)
    send(world, merchants, 1_000)
    settle(world, merchants, EVENTS + 1_000)


def test_sigterm_commits_what_was_read_and_ends_well(
    world: World, merchants: list[int], ingester: Process
) -> None:
    send(world, merchants)
    wait_until(lambda: applied(world) > 0, 60, "nothing is applied")
    ingester.send(signal.SIGTERM)
    assert ingester.end(40) == 0, "\n".join(ingester.lines)
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("ingesting")
        settle(world, merchants, EVENTS)


def test_one_per_cent_broken_leaves_the_rest_untouched(
    world: World, merchants: list[int], ingester: Process
) -> None:
    now = int(time.time() * 1000)
    shops = Shops(merchants, 7)
    sent = world.write(iter(shops.messages(20_000, now - DAY_MS, now)))
    settle(world, merchants, sent)
    found = oracle.truth(world.bootstrap, world.topic)
    assert len(found.rejects) == shops.tally.broken > 100
    assert len(found.duplicates) == shops.tally.retries > 100
    assert len(found.rows) == shops.tally.stored
