"""What `reprocess verify` saw is told to Prometheus long after the command has ended."""

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import asyncpg
import psycopg
import pytest

from db.pools import WRITER_SETTINGS, open_pool
from db.verifications import Look, note, standing
from footfall.simulate import DAY_MS, Shops
from tests.conftest import World
from tests.history import ingest, own_world, reprocess
from tests.operations.test_telemetry import gauges
from tests.processes import footfall, free_port, wait_until

DIFFERENCES, UNTIL = "footfall_verify_differences", "footfall_verify_until_timestamp_seconds"


def told(world: World, wanted: Mapping[str, Mapping[str, float]]) -> None:
    """An ingester of this world tells these gauges, before long."""
    port = free_port()
    with footfall("ingest", "--telemetry-port", str(port), environment=world.environment) as each:
        each.wait_for("ingesting")
        wait_until(
            lambda: {name: gauges(port).get(name) for name in wanted} == wanted,
            30,
            f"{wanted} is not told",
        )


def test_differences_stand_until_they_are_mended(bootstrap: str) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with own_world(bootstrap, f"verified.{uuid.uuid4().hex[:8]}") as world:
        (merchant,) = world.merchants(1)
        now = int(time.time() * 1000)
        shops = Shops([merchant], 5)
        ingest(world, world.write(iter(shops.messages(2_000, now - 3 * DAY_MS, now))))
        first = _one(
            world, "SELECT extract(epoch FROM min(committed_at))::float8 FROM ingest_batch"
        )
        told(world, {DIFFERENCES: {"0": 0}, UNTIL: {"0": first}})
        lost = _one(
            world,
            "WITH lost AS (DELETE FROM events WHERE (ts, log_offset) IN (SELECT ts, log_offset "
            "FROM events WHERE ts < %s ORDER BY ts DESC LIMIT 3) RETURNING 1) "
            "SELECT count(*) FROM lost",
            midnight,
        )
        assert lost == 3
        found = reprocess(world, "verify", "--days", "3", "--json", code=1)
        wrong = sum(row["differing"] for part in found["slices"] for row in part["rows"])
        assert wrong == 3
        counted = wrong + len(found["rollups"])
        until: dict[str, dict[str, float]] = {UNTIL: {"0": midnight.timestamp()}}
        told(world, {DIFFERENCES: {"0": counted}, **until})
        # A look at another window, or at less of this one, mends nothing.
        reprocess(
            world, "verify", "--from", "2026-01-01", "--to", "2026-01-02", "--merchant",
            str(merchant),
        )  # fmt: skip
        told(world, {DIFFERENCES: {"0": counted}, **until})
        reprocess(world, "verify", "--days", "4", "--repair")
        told(world, {DIFFERENCES: {"0": 0}, **until})
        looks = _all(world, "SELECT differences, repaired FROM verification ORDER BY verified_at")
        assert looks == [(counted, False), (counted, False), (0, True)]


def test_an_idle_shard_is_verified_too(bootstrap: str) -> None:
    with own_world(bootstrap, f"idle.{uuid.uuid4().hex[:8]}") as world:
        reprocess(world, "verify", "--days", "1")
        assert _all(world, "SELECT slices, messages, differences FROM verification") == [(0, 0, 0)]


@pytest.mark.parametrize(
    "words",
    [
        ("--days", "1", "--from", "2026-01-01"),
        ("--from", "2026-01-01"),
        (),
    ],
)
def test_a_window_is_given_one_way(world: World, words: tuple[str, ...]) -> None:
    reprocess(world, "verify", *words, code=2)


async def with_two_partitions(world: World) -> asyncpg.Pool:
    """The first shard, with partitions 0 and 2 of this topic in it."""
    pool = await open_pool(world.shards[0], WRITER_SETTINGS, size=1)
    for partition in (0, 2):
        await pool.execute(
            "INSERT INTO ingest_offset (topic, kafka_partition, topic_id, next_offset) "
            "VALUES ($1, $2, 'id', 0)",
            world.topic,
            partition,
        )
    return pool


async def test_the_partition_that_waits_longest_counts(world: World) -> None:
    """Looks at single partitions come together to one at all of them."""
    pool = await with_two_partitions(world)

    async def look(partition: int | None, *, until: datetime) -> datetime | None:
        start = until - timedelta(days=1)
        await note(pool, Look(world.topic, start, until, None, partition, 1, 1, 0, repaired=False))
        return (await standing(pool, world.topic)).until

    monday, tuesday, wednesday = (datetime(2026, 11, day, tzinfo=UTC) for day in (2, 3, 4))
    assert await look(0, until=tuesday) == tuesday  # the other has no batch either
    assert await look(2, until=monday) == monday
    assert await look(None, until=tuesday) == tuesday
    assert await look(2, until=wednesday) == tuesday
    assert await look(0, until=datetime(2099, 1, 1, tzinfo=UTC)) == wednesday
    pool.terminate()


async def test_looks_at_each_partition_end_what_a_look_at_all_found(world: World) -> None:
    pool = await with_two_partitions(world)
    start, end = (datetime(2026, 11, day, tzinfo=UTC) for day in (2, 4))

    async def look(partition: int | None, differences: int, end: datetime = end) -> int:
        seen = Look(world.topic, start, end, None, partition, 1, 1, differences, repaired=False)
        await note(pool, seen)
        return (await standing(pool, world.topic)).differences

    assert await look(None, 5) == 5
    assert await look(0, 0) == 5
    assert await look(2, 0, end=end - timedelta(days=1)) == 5  # not all of the window
    assert await look(2, 0) == 0
    assert await look(2, 3) == 3
    assert await look(0, 0) == 3
    assert await look(None, 0) == 0
    pool.terminate()


def _one(world: World, question: str, *values: object) -> float:
    (row,) = _all(world, question, *values)
    return row[0]


def _all(world: World, question: str, *values: object) -> list[tuple[float, ...]]:
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        return connection.execute(question, values).fetchall()
