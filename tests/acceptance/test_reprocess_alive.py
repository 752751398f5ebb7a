"""History is replaced while the shop stays open, and whatever is killed meanwhile."""

import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from footfall.simulate import DAY_MS, Shops
from tests import oracle
from tests.beside import Beside
from tests.conftest import World
from tests.history import (
    applied,
    differences,
    everything,
    ingest,
    one,
    own_world,
    refreshed,
    reprocess,
)
from tests.late import Late
from tests.processes import footfall, script, wait_until
from tests.service import Service, serving

DIES = Path(__file__).with_name("reprocess_that_dies.py")
POINTS = [
    "after_begin", "after_recount", "after_compare", "after_delete", "after_insert", "after_fence",
    "before_commit", "after_commit", "after_source_hourly", "before_done",
]  # fmt: skip
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST, LAST = (f"{TODAY + timedelta(days=days):%Y-%m-%d}" for days in (-2, 1))
WINDOW = ["--from", FIRST, "--to", LAST]


@pytest.fixture(scope="module")
def settled(bootstrap: str) -> Iterator[tuple[World, dict[str, list[Any]]]]:
    """A world whose tables are right, and what they hold."""
    with own_world(bootstrap, f"dies.{uuid.uuid4().hex[:8]}") as world:
        shops = Shops(world.merchants(3), 11)
        now = int(TODAY.timestamp() * 1000)
        sent = world.write(iter(shops.messages(800, now - 2 * DAY_MS, now)))
        ingest(world, sent)
        yield world, everything(world)


def spoil(world: World) -> None:
    """As if the logic had taken mail for links."""
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        connection.execute("UPDATE events SET channel = 'Referral' WHERE channel = 'Email'")
        for rollup in ("source_hourly", "source_daily", "session_daily", "session_summary_daily"):
            connection.execute(
                "CALL refresh_continuous_aggregate(%s::text::regclass, %s::timestamptz, "
                "%s::timestamptz, force => true)",
                (rollup, TODAY - timedelta(days=2), TODAY),
            )


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point_it_is_taken_up_again(
    settled: tuple[World, dict[str, list[Any]]], point: str
) -> None:
    world, wanted = settled
    spoil(world)
    assert differences(everything(world), wanted) != []
    with script(DIES, point, FIRST, LAST, environment=world.environment) as dying:
        assert dying.end(120) == -signal.SIGKILL, "\n".join(dying.lines)
    wait_until(lambda: nobody_replaces(world), 30, "the dead process's session lives on")
    told = reprocess(world, "resume", "--json")
    assert told["done"] == told["slices"]
    assert differences(everything(world), wanted) == []
    states = {row[0] for row in rows(world, "SELECT DISTINCT state FROM reprocess_run")}
    assert states == {"done"}


def rows(world: World, question: str) -> list[tuple[Any, ...]]:
    """The rows that answer a question."""
    with psycopg.connect(world.shards[0]) as connection:
        return connection.execute(question).fetchall()


def nobody_replaces(world: World) -> bool:
    """Whether the server has noticed that the dead process is gone."""
    question = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'footfall-reprocess'"
    )
    return bool(one(world.shards[0], question) == 0)


def test_another_run_over_the_same_slices_is_refused_and_a_run_can_be_cancelled(
    settled: tuple[World, dict[str, list[Any]]],
) -> None:
    world, wanted = settled
    spoil(world)
    with script(DIES, "after_begin", FIRST, LAST, environment=world.environment) as dying:
        assert dying.end(60) == -signal.SIGKILL
    said = reprocess(world, "run", *WINDOW, "--yes", code=1)
    assert "has yet to finish" in said
    reprocess(world, "resume", "--cancel")
    held = reprocess(world, "run", *WINDOW, "--yes", "--json", "--max-change", "0.0001%")
    assert held["rows_changed"] > 0  # no sum changes where only the channel does
    assert differences(everything(world), wanted) == []


def test_a_surprising_change_is_held_back_until_an_operator_allows_it(
    settled: tuple[World, dict[str, list[Any]]],
) -> None:
    world, wanted = settled
    with psycopg.connect(world.shards[0], autocommit=True) as connection:
        connection.execute("UPDATE events SET is_bot = true WHERE event = 'view_item'")
    before = everything(world, rollups=False)
    said = reprocess(world, "run", *WINDOW, "--yes", "--max-change", "20%", code=1)
    assert "more than 20%" in said
    assert differences(everything(world, rollups=False), before) == []
    reprocess(world, "resume", "--max-change", "100000%")
    assert differences(everything(world), wanted) == []


def test_live_goes_on_and_no_reader_sees_half_a_change(bootstrap: str, tmp_path: Path) -> None:
    with own_world(bootstrap, f"alive.{uuid.uuid4().hex[:8]}") as world:
        quiet, busy = world.merchants(2)
        now = int(TODAY.timestamp() * 1000)
        sent = world.write(iter(Shops([quiet, busy], 5).messages(3_000, now - 2 * DAY_MS, now)))
        ingest(world, sent, "bots")
        with (
            footfall("ingest", environment=world.environment) as ingester,
            serving(world, tmp_path) as (service, _),
        ):
            ingester.wait_for("assigned")
            reader = Reader(service, quiet)
            late = Late(world, busy, now)
            with reader, late:
                wait_until(lambda: len(reader.seen) > 20, 60, "the reader reads nothing")
                reprocess(world, "run", *WINDOW, "--yes", "--json")
                time.sleep(3)
            total = sent + late.sent
            wait_until(lambda: applied(world) >= total, 90, "not all is applied")
            wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")
        numbers = reader.distinct()
        assert len(numbers) == 2, numbers
        assert late.sent > 0
        wrong = oracle.differences(
            oracle.truth(world.bootstrap, world.topic), world.shards, world.topic, [quiet, busy]
        )
        assert wrong == []
        assert reprocess(world, "verify", *WINDOW, "--json")["agrees"]


class Reader(Beside):
    """Asks for a day's numbers every 20 ms, of several rollups at once."""

    def __init__(self, service: Service, merchant: int) -> None:
        super().__init__()
        self._service, self._merchant = service, merchant
        self.seen: list[tuple[Any, ...]] = []
        key = service.command(
            "keys", "create", "--merchant", str(merchant), "--scope", "stats:read"
        )["key"]
        service.adopt(merchant, key)

    def run(self) -> None:
        """Until the end."""
        day = TODAY - timedelta(days=1)
        while not self.ended.is_set():
            (row,) = self._service.ask(
                self._merchant,
                metrics=["events", "page_views", "sessions", "visitors", "product_views"],
                date_range=[f"{day:%Y-%m-%d}", f"{TODAY:%Y-%m-%d}"],
            )["rows"]
            self.seen.append(tuple(row.values()))
            time.sleep(0.02)

    def distinct(self) -> list[tuple[Any, ...]]:
        """The different answers, in the order in which they came, each run of one once."""
        found = [self.seen[0]]
        for each in self.seen:
            if each != found[-1]:
                found.append(each)
        return found
