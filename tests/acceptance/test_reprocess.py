"""A bug was in the logic; it is mended, history is made again, and every number is right."""

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from footfall.simulate import DAY_MS, Shops
from tests import warm
from tests.conftest import World
from tests.history import days, differences, everything, ingest, own_world, reprocess
from tests.processes import footfall

EVENTS = 6_000
BUGS = ["channel", "time", "bots", "verdict"]


@dataclass(frozen=True, slots=True)
class Right:
    """Events of three days by today's logic: a test that spoils them mends them."""

    world: World
    sent: int
    wanted: dict[str, list[str]]


@pytest.fixture(scope="module")
def right(bootstrap: str) -> Iterator[Right]:
    """One for all tests."""
    with own_world(bootstrap, f"history.{uuid.uuid4().hex[:8]}") as world:
        merchants = world.merchants(5)
        now = int(time.time() * 1000)
        shops = Shops(merchants, 3)
        sent = world.write(iter(shops.messages(EVENTS, now - 3 * DAY_MS, now)))
        ingest(world, sent)
        yield Right(world, sent, everything(world))


@contextmanager
def wrong(right: Right, bug: str) -> Iterator[World]:
    """Another world of the same topic, ingested by logic with a bug."""
    with own_world(right.world.bootstrap, right.world.topic) as world:
        world.merchants(5)
        ingest(world, right.sent, bug)
        yield world


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_mended_and_twice_is_the_same(right: Right, bug: str) -> None:
    wanted = right.wanted
    with wrong(right, bug) as world:
        assert differences(everything(world), wanted) != []
        window, cut = days(-5, 2), ""
        if bug == "time":
            # Slices short enough that messages move from one into another that was read already.
            window += ["--misplaced-hours", "2"]
            cut = "100"
        how = ["--yes", "--json", "--reason", "a bug"]
        first = reprocess(world, "run", *window, *how, FOOTFALL_SLICE_MESSAGES=cut or "100000")
        assert differences(everything(world), wanted) == []
        assert first["rows_changed"] > 0
        again = reprocess(world, "run", *window, "--yes", "--json")
        assert again["rows_changed"] == 0
        assert differences(everything(world), wanted) == []


@pytest.mark.parametrize("bug", ["verdict", "time"])  # a few rows differ, and every one
def test_rows_in_the_columnstore_are_replaced_too(right: Right, bug: str) -> None:
    with wrong(right, bug) as world:
        with psycopg.connect(world.shards[0], autocommit=True) as connection:
            for table in ("events", "event_items"):
                packed = connection.execute(
                    "SELECT compress_chunk(chunk) FROM show_chunks(%s::regclass) AS chunk", (table,)
                ).fetchall()
                assert packed
        window = [*days(-5, 2), "--misplaced-hours", "2"]
        told = reprocess(world, "run", *window, "--yes", "--json")
        assert told["rows_changed"] > 0
        assert differences(everything(world), right.wanted) == []
        assert reprocess(world, "verify", *days(-5, 2), "--json")["agrees"]


def test_verify_finds_what_differs_and_repairs_exactly_that(right: Right) -> None:
    world, wanted = right.world, right.wanted
    assert reprocess(world, "verify", *days(-5, 1), "--json")["agrees"]
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        # rows lost, rows altered, and a row that stands twice
        connection.execute(
            "DELETE FROM events WHERE (kafka_partition, log_offset) IN (SELECT "
            "kafka_partition, log_offset FROM events WHERE merchant_id = 1 LIMIT 3)"
        )
        connection.execute("UPDATE events SET page = '/x' WHERE merchant_id = 2 AND page = '/'")
        connection.execute("INSERT INTO events SELECT * FROM events WHERE merchant_id = 3 LIMIT 1")
    found = reprocess(world, "verify", *days(-5, 1), "--json", code=1)
    assert not found["agrees"]
    rows = [row for part in found["slices"] for row in part["rows"]]
    lost = [row["log_rows"] - row["held_rows"] for row in rows if row["merchant_id"] == 1]
    assert sum(lost) == 3
    assert {row["merchant_id"] for row in rows} == {1, 2, 3}
    assert reprocess(world, "verify", *days(-5, 1), "--repair", "--json")["agrees"]
    assert differences(everything(world), wanted) == []
    with psycopg.connect(world.shards[0]) as connection:
        ledger = connection.execute(
            "SELECT sum(event_rows)::int8, sum(item_rows)::int8 FROM ingest_batch"
        ).fetchone()
    assert ledger == (len(wanted["events"]), len(wanted["event_items"]))


def test_a_rollup_that_lost_rows_without_a_trace_is_found_and_mended(right: Right) -> None:
    world, wanted = right.world, right.wanted
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        hypertable = connection.execute(
            "SELECT format('%I.%I', materialization_hypertable_schema, "
            "materialization_hypertable_name) "
            "FROM timescaledb_information.continuous_aggregates "
            "WHERE view_name = 'traffic_hourly'"
        ).fetchone()
        assert hypertable is not None
        connection.execute(f"DELETE FROM {hypertable[0]} WHERE event = 'purchase'")
    found = reprocess(world, "verify", *days(-5, 1), "--json", code=1)
    assert all(not s["rows"] for s in found["slices"])
    assert "traffic_hourly" in {bucket["rollup"] for bucket in found["rollups"]}
    assert reprocess(world, "verify", *days(-5, 1), "--repair", "--json")["agrees"]
    assert differences(everything(world), wanted) == []


def test_a_run_that_is_interrupted_says_how_to_go_on(right: Right) -> None:
    world = right.world
    words = ["reprocess", "run", *days(-5, 2), "--yes", "--rate", "500", "--parallel", "1"]
    slices = {"FOOTFALL_SLICE_MESSAGES": "200"}
    with footfall(*words, environment={**world.environment, **slices}) as process:
        process.wait_for("run ")
        time.sleep(1.5)
        process.send(signal.SIGINT)
        assert process.end(30) == 130
        told = " ".join(process.lines)
    known = reprocess(world, "status", "--json")
    (run,) = [each for each in known if f"footfall reprocess resume {each['run_id']}" in told]
    assert run["state"] != "done"
    narrow = warm.run(["reprocess", "status"], {**world.environment, "COLUMNS": "80"}, 60)
    assert run["run_id"] in narrow.stdout
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    reprocess(world, "resume", run["run_id"])
    (ended,) = reprocess(world, "status", run["run_id"], "--json")
    assert ended["state"] == "done"
    assert differences(everything(world), right.wanted) == []
