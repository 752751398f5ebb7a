"""A connection may be lost at any moment: the ingester goes on within seconds, and every event
counts once."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import polars as pl
import psycopg
import pytest

from db import copier
from db.copier import copy_rows
from db.errors import kind_of
from db.pools import INGEST_SETTINGS, borrowed, open_pool, transaction
from footfall.environment import Environment
from ingester.pipeline import Pipeline
from tests import oracle
from tests.acceptance.test_supervised import page_views, stored, until
from tests.conftest import World
from tests.cutting import Cutter
from tests.processes import Process, footfall, wait_until
from tests.service import FIREFOX

SERVERS = "FOOTFALL_TEST_SHARDS"


def native(test: Any) -> Any:
    """A test that ends sessions of a server, of which the embedded one has a single one."""
    missing = f"the embedded database has one session: name a TimescaleDB server in {SERVERS}"
    skipped = pytest.mark.skipif(not os.environ.get(SERVERS), reason=missing)
    return pytest.mark.native(skipped(test))


POINTS = ["before_fence", "after_fence", "mid_copy", "before_commit", "after_commit"]
CUTS = 60


@pytest.fixture
def cutter(shard: str) -> Iterator[Cutter]:
    """The way to the first shard."""
    made = Cutter(shard)
    yield made
    made.close()


@asynccontextmanager
async def one_connection(cutter: Cutter) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(cutter.dsn, INGEST_SETTINGS, size=1)
    yield pool
    pool.terminate()


@pytest.mark.parametrize("blocked", [False, True], ids=["cut", "blocked"])
async def test_a_copy_ends_when_its_connection_does(
    cutter: Cutter, monkeypatch: pytest.MonkeyPatch, blocked: bool
) -> None:
    """Also where it waits for a connection that takes no more."""
    monkeypatch.setattr(copier, "STALLED_S", 3.0)
    rows = pl.DataFrame({"detail": ["x" * 1_000] * 40_000})
    async with one_connection(cutter) as pool:
        began = time.monotonic()
        with pytest.raises(OSError, match="lost or stalled"):
            async with transaction(pool) as connection:
                await connection.execute("CREATE TEMP TABLE many (detail text) ON COMMIT DROP")
                with cutter.blocked():
                    copying = asyncio.create_task(copy_rows(connection, "many", rows))
                    await asyncio.sleep(1)
                    assert not copying.done()
                    if not blocked:
                        cutter.cut()
                    await copying
        assert time.monotonic() - began < 6
        cutter.cut()  # what the server had not been told
        async with borrowed(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_connection_is_thrown_away_after_an_error(cutter: Cutter) -> None:
    async with one_connection(cutter) as pool:
        for _ in range(2):
            async with borrowed(pool) as connection:
                await connection.execute("SELECT 1")
        assert cutter.accepted == 1
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with transaction(pool) as connection:
                await connection.execute("SELECT 1/0")
        with pytest.raises(TimeoutError):
            async with transaction(pool, within_s=0.2) as connection:
                await connection.execute("SELECT pg_sleep(1)")
        async with transaction(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        assert cutter.accepted == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.InternalServerError("XX000"), "transient"),
        (asyncpg.DataCorruptedError("XX001"), "transient"),
        (asyncpg.ProgramLimitExceededError("54000"), "transient"),
        (asyncpg.InternalClientError("cannot switch to state 12"), "transient"),
        (asyncpg.InterfaceError("the connection is closed"), "transient"),
        (ConnectionResetError(), "transient"),
        (TimeoutError(), "transient"),
        (asyncpg.AdminShutdownError("57P01"), "transient"),
        (asyncpg.DiskFullError("53100"), "transient"),
        (asyncpg.NumericValueOutOfRangeError("22003"), "data"),
        (asyncpg.NotNullViolationError("23502"), "data"),
        (asyncpg.UndefinedColumnError("42703"), "bug"),
        (ValueError(), "bug"),
    ],
)
def test_only_an_error_that_names_a_value_costs_an_event(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def counted_once(world: World, merchants: list[int]) -> None:
    truth = oracle.truth(world.bootstrap, world.topic)
    wrong = oracle.differences(truth, world.shards, world.topic, merchants)
    assert wrong == [], oracle.describe(wrong)


@contextmanager
def two_ingesters(world: World) -> Iterator[tuple[Process, Process]]:
    """Both running and ready."""
    with (
        footfall("ingest", environment=world.environment) as one,
        footfall("ingest", environment=world.environment) as two,
    ):
        for each in (one, two):
            each.wait_for("ingesting")
        yield one, two


def recovered(
    world: World, merchants: list[int], wanted: int, ingesters: tuple[Process, Process]
) -> None:
    """All is stored within ten seconds, and both ingesters run."""
    last_lines = "\n".join(line for each in ingesters for line in each.lines[-10:])
    wait_until(partial(all_stored, world, merchants, wanted), 10, last_lines)
    for each in ingesters:
        assert each.runs


def all_stored(world: World, merchants: list[int], wanted: int) -> bool:
    return stored(world, merchants) == wanted


@pytest.mark.parametrize("point", POINTS)
async def test_a_cut_at_any_step_costs_seconds_and_no_event(
    world: World, cutter: Cutter, point: str
) -> None:
    merchants = world.merchants(4)
    left = [3]

    def reach(step: str) -> None:
        if step == point and left[0]:
            left[0] -= 1
            cutter.cut()

    through = replace(world, shards=[cutter.dsn, *world.shards[1:]])
    ingester = Pipeline(Environment.read(through.environment).ingest_settings(), reach=reach)
    running = asyncio.create_task(ingester.run())
    try:
        for wanted in (12_000, 24_000):
            for merchant in merchants:
                world.write(iter(page_views(merchant, (wanted - 12_000) // 4)))
            all_in = partial(all_stored, world, merchants, wanted)
            await until(all_in, 20, lambda: f"{ingester.supervisor.health}")
        assert left == [0]
    finally:
        ingester.stop()
        await asyncio.wait_for(running, 60)
    counted_once(world, merchants)


async def test_commits_that_a_server_lost_are_made_again(world: World) -> None:
    """As after a crash: a commit does not wait for the disk. No later message tells of it."""
    (merchant,) = world.merchants(1)
    ingester = Pipeline(Environment.read(world.environment).ingest_settings())
    running = asyncio.create_task(ingester.run())
    try:
        count = world.write(iter(page_views(merchant)))
        all_in = partial(all_stored, world, [merchant], count)
        await until(all_in, 20, lambda: f"{ingester.supervisor.health}")
        for dsn in world.shards:
            with psycopg.connect(dsn) as connection:
                lost = connection.execute(
                    "DELETE FROM ingest_batch WHERE topic_id = (SELECT topic_id FROM ingest_offset "
                    "WHERE topic = %s LIMIT 1) RETURNING kafka_partition, start_offset",
                    (world.topic,),
                ).fetchall()
                connection.execute("DELETE FROM events WHERE merchant_id = %s", (merchant,))
                for partition, start in lost:
                    connection.execute(
                        "UPDATE ingest_offset SET next_offset = least(next_offset, %s) "
                        "WHERE topic = %s AND kafka_partition = %s",
                        (start, world.topic, partition),
                    )
        assert not all_in()
        await until(all_in, 20, lambda: f"{ingester.supervisor.health}")
    finally:
        ingester.stop()
        await asyncio.wait_for(running, 60)


def test_cuts_at_random_moments_end_no_ingester(world: World, cutter: Cutter) -> None:
    dice = random.Random(7)
    merchants = world.merchants(8)
    through = replace(world, shards=[cutter.dsn, *world.shards[1:]])
    with two_ingesters(through) as ingesters:
        wanted = 0
        for _ in range(CUTS):
            wanted += world.write(large_events(merchants, wanted, 300))
            time.sleep(dice.uniform(0, 0.3))
            if dice.random() < 0.2:
                with cutter.blocked():
                    time.sleep(0.2)
                    cutter.cut()
            cutter.cut()
        recovered(world, merchants, wanted, ingesters)
    counted_once(world, merchants)


_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'footfall-ingest' AND datname = current_database() AND pid = ANY ("
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'footfall-ingest' "
    "ORDER BY random() LIMIT %s)"
)


def large_events(merchants: list[int], first: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    now = int(time.time() * 1000)
    for number in range(first, first + count):
        event = {
            "merchant_id": merchants[number % len(merchants)],
            "event": "page_view",
            "event_id": f"e-{number}",
            "timestamp": now,
            "visitor_id": f"v-{number % 70}",
            "user_agent": FIREFOX,
            "properties": {"text": "x" * 500},
        }
        yield str(event["merchant_id"]).encode(), json.dumps(event).encode()


@native
def test_a_copy_that_the_server_ends_while_it_waits_is_tried_again(world: World) -> None:
    merchants = world.merchants(4)
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("ingesting")
        wanted = 0
        for _ in range(3):
            with psycopg.connect(world.shards[0]) as locking:
                locking.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
                wanted += world.write(large_events(merchants, wanted, 60_000))
                time.sleep(2)
                assert len(locking.execute(_TERMINATE, (10,)).fetchall()) > 0
            wait_until(
                partial(all_stored, world, merchants, wanted), 30, "\n".join(process.lines[-20:])
            )
        assert process.runs


@native
def test_two_hundred_terminations_end_no_ingester(world: World) -> None:
    dice = random.Random(11)
    merchants = world.merchants(8)
    with (
        psycopg.connect(world.shards[0], autocommit=True) as killing,
        two_ingesters(world) as ingesters,
    ):
        wanted = ended = 0
        while ended < 200:
            wanted += world.write(large_events(merchants, wanted, 2_000))
            time.sleep(dice.uniform(0, 0.3))
            ended += len(killing.execute(_TERMINATE, (dice.randrange(1, 4),)).fetchall())
        recovered(world, merchants, wanted, ingesters)
    counted_once(world, merchants)
