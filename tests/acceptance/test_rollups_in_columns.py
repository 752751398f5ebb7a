"""Rollups in the columnstore: late events and replays reach them as they reach rows."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from db.rollups import ROLLUPS
from footfall.simulate import DAY_MS, Message, Shops
from tests.conftest import World
from tests.history import differences, everything, ingest, own_world, reprocess

OLD, NEW = (19, 17), (3, 2)  # days ago: of a chunk that the policy packs, and of one that it leaves


def some(merchants: list[int], seed: int, count: int) -> list[Message]:
    """Events of an old time and of a newer one; another seed is of other sessions."""
    shops, now = Shops(merchants, seed), int(time.time() * 1000)
    return [
        message
        for first, last in (OLD, NEW)
        for message in shops.messages(count, now - first * DAY_MS, now - last * DAY_MS)
    ]


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
        sent = world.write(iter(some(merchants, 1, 700)))
        ingest(world, sent)
        before = everything(world)
        pack(world)
        assert differences(everything(world), before) == []
        sent += world.write(iter(some(merchants, 2, 200)))
        ingest(world, sent)
        found = everything(world)
        with own_world(bootstrap, name) as other:
            other.merchants(3)
            ingest(other, sent)
            wanted = everything(other)
        assert differences(before, wanted) != []
        assert differences(found, wanted) == []
        by_policy = packed_by_policy(world)
        assert set(by_policy) == {rollup.name for rollup in ROLLUPS}
        assert min(by_policy.values()) > 0
        assert differences(everything(world), wanted) == []


def test_history_is_made_again_through_rollups_that_are_columns(bootstrap: str, name: str) -> None:
    today = datetime.now(UTC).date()
    window = [
        "--from", (today - timedelta(days=OLD[0] + 1)).isoformat(),
        "--to", (today - timedelta(days=NEW[1] - 1)).isoformat(),
    ]  # fmt: skip
    with own_world(bootstrap, name) as world:
        sent = world.write(iter(some(world.merchants(3), 3, 700)))
        with own_world(bootstrap, name) as other:
            other.merchants(3)
            ingest(other, sent)
            wanted = everything(other)
        ingest(world, sent, "channel")
        pack(world)
        packed_by_policy(world)  # raw rows too
        assert differences(everything(world), wanted) != []
        told = reprocess(world, "run", *window, "--yes", "--json", "--reason", "a bug")
        assert told["rows_changed"] > 0
        assert differences(everything(world), wanted) == []
        assert reprocess(world, "verify", *window, "--json")["agrees"]
