"""Rollups in the columnstore: late events and replays reach them as they reach rows."""

import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from db.rollups import ROLLUPS
from footfall.simulate import DAY_MS, Message, Shops
from tests import oracle
from tests.conftest import World
from tests.history import days, differences, everything, ingest, own_world, reprocess

OLD, NEW = 19, 3  # days ago: of a chunk that the policy packs, and of one that it leaves


def a_day(merchants: list[int], seed: int, days_ago: int, count: int) -> Iterator[Message]:
    """Events of 24 hours; another seed is of other sessions."""
    start = int(time.time() * 1000) - days_ago * DAY_MS
    return iter(Shops(merchants, seed).messages(count, start, start + DAY_MS))


def around(days_ago: int) -> list[str]:
    """The window that holds them, as options."""
    return days(-days_ago - 1, 2 - days_ago)


def pack(world: World) -> None:
    """Every chunk of every rollup into the columnstore, whatever its age."""
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        # No session may need more than this allows: what must be unpacked is for us to say.
        connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timescaledb."
            "max_tuples_decompressed_per_dml_transaction = 1', current_database()); END $$"
        )
        for rollup in ROLLUPS:
            packed = connection.execute(
                "SELECT compress_chunk(chunk) FROM show_chunks(%s::regclass) AS chunk",
                (rollup.name,),
            ).fetchall()
            assert packed, rollup.name


def packed_by_policy(world: World) -> dict[str, int]:
    """Run the columnstore's policies; how many chunks of each rollup are whole columns then."""
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        jobs = connection.execute(
            "SELECT job_id FROM timescaledb_information.jobs "
            "WHERE proc_name IN ('policy_compression', 'policy_columnstore') ORDER BY job_id"
        ).fetchall()
        assert len(jobs) == len(ROLLUPS) + 2
        for (job,) in jobs:
            connection.execute(f"CALL run_job({job})")
        return dict(
            connection.execute(
                "SELECT view_name, count(*) FILTER (WHERE is_compressed)::int "
                "  FROM timescaledb_information.continuous_aggregates "
                "  JOIN timescaledb_information.chunks "
                "    ON chunks.hypertable_name = materialization_hypertable_name "
                " WHERE range_end < now() - INTERVAL '7 days' GROUP BY 1"
            ).fetchall()
        )


@pytest.fixture
def name() -> str:
    """Of a topic of the test's own."""
    return f"columns.{uuid.uuid4().hex[:8]}"


def test_late_events_reach_rollups_that_are_columns(bootstrap: str, name: str) -> None:
    with own_world(bootstrap, name) as world:
        merchants = world.merchants(3)
        sent = sum(world.write(a_day(merchants, n, n, 400)) for n in (OLD, NEW))
        ingest(world, sent)
        before = everything(world)
        pack(world)
        assert differences(everything(world), before) == []
        sent += sum(world.write(a_day(merchants, -n, n, 100)) for n in (OLD, NEW))
        ingest(world, sent)
        after = everything(world)
        wrong = oracle.differences(oracle.truth(bootstrap, name), world.shards, name, merchants)
        assert not wrong, oracle.describe(wrong)
        for n in (OLD, NEW):
            assert reprocess(world, "verify", *around(n), "--json")["agrees"]
        by_policy = packed_by_policy(world)
        assert set(by_policy) == {rollup.name for rollup in ROLLUPS}
        assert min(by_policy.values()) > 0
        assert differences(everything(world), after) == []


def test_history_is_made_again_through_rollups_that_are_columns(bootstrap: str, name: str) -> None:
    with own_world(bootstrap, name) as world:
        sent = world.write(a_day(world.merchants(3), 3, OLD, 400))
        with own_world(bootstrap, name) as other:
            other.merchants(3)
            ingest(other, sent)
            wanted = everything(other)
        ingest(world, sent, "channel")
        pack(world)
        packed_by_policy(world)  # raw rows too
        assert differences(everything(world), wanted) != []
        told = reprocess(world, "run", *around(OLD), "--yes", "--json", "--reason", "a bug")
        assert told["rows_changed"] > 0
        assert differences(everything(world), wanted) == []
