"""A real shop's half year, loaded through the topic and held against the file, day by day."""

import csv
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import psycopg
import pytest

from footfall.topic import ensure_topic
from tests.acceptance.test_exactly_once import applied, refreshed, send
from tests.conftest import PARTITIONS, World
from tests.processes import ROOT, footfall, wait_until

DATA = ROOT.parent / "shared" / "data" / "onlineshop.csv"
TOLERANCE = 4 * 0.0163  # four standard errors of the registers
RECENT = 1_000
OLD = {"FOOTFALL_MAX_AGE_DAYS": "4000"}

pytestmark = [
    pytest.mark.skipif(
        not DATA.exists(),
        reason="a real shop's events are missing: put onlineshop.csv (user_id,event,timestamp) "
        "into shared/data beside the project's folder",
    ),
    pytest.mark.timeout(600),
]


@dataclass(slots=True)
class Days:
    """What happened on each UTC day."""

    events: Counter[date] = field(default_factory=Counter)
    product_views: Counter[date] = field(default_factory=Counter)
    orders: Counter[date] = field(default_factory=Counter)
    visitors: dict[date, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A shop whose file is in."""

    world: World
    merchant: int

    def by_day(self, question: str) -> dict[date, int]:
        """Rows of a day and a number, from whichever shard holds the shop."""
        found: dict[date, int] = {}
        for dsn in self.world.shards:
            with psycopg.connect(dsn) as connection:
                rows: list[Any] = connection.execute(question, {"m": self.merchant}).fetchall()
                found |= {day: int(count) for day, count in rows if count}
        return found


@pytest.fixture(scope="module")
def wanted() -> Days:
    """From the file alone."""
    days = Days()
    with DATA.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            day = datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S.%f").date()  # noqa: DTZ007 - UTC
            days.events[day] += 1
            days.visitors[day].add(row["user_id"])
            if row["event"] in {"product1", "product2"}:
                days.product_views[day] += 1
            if row["event"] == "payment_done":
                days.orders[day] += 1
    return days


@pytest.fixture(scope="module")
def loaded(bootstrap: str, shards: list[str], wanted: Days) -> Iterator[Loaded]:
    """The file through `footfall load` and the topic into the tables; the rollups refreshed.

    Other shops' events of these days come first, as on any system that is in use: the file's
    then lie behind what the rollups have taken in, and only a refresh can bring them in.
    """
    topic = f"onlineshop.{uuid.uuid4().hex[:8]}"
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    world = World(bootstrap, topic, shards)
    environment = world.environment | OLD
    merchant, *others = world.merchants(21)  # enough others that every shard has some
    sent = wanted.events.total()
    words = ["load", str(DATA), "--merchant", str(merchant), "--mapping", "onlineshop"]
    clock = Clock()
    with footfall("ingest", environment=environment) as ingester:
        ingester.wait_for("ingesting")
        send(world, others, RECENT)
        wait_until(lambda: applied(world) >= RECENT, 90, "the recent events are not applied")
        wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")
        clock.took("the ingester and recent events")
        with footfall(*words, environment=environment) as loading:
            assert loading.end(120) == 0, "\n".join(loading.lines)
            assert f"{sent} events acknowledged" in loading.lines
        clock.took("loading")
        all_sent = sent + RECENT
        wait_until(lambda: applied(world) >= all_sent, 240, f"{sent} events were not applied")
        clock.took("applying the rest")
        wait_until(lambda: refreshed(world), 240, "the rollups were not refreshed")
        clock.took("refreshing")
        yield Loaded(world, merchant)


class Clock:
    """Says how long each part took."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def took(self, what: str) -> None:
        """Print the seconds since the last."""
        now = time.monotonic()
        print(f"{what}: {now - self._since:.1f} s")
        self._since = now


def test_the_rows_are_the_files(loaded: Loaded, wanted: Days) -> None:
    assert loaded.by_day(_RAW.format("count(*)")) == wanted.events
    visitors = {day: len(who) for day, who in wanted.visitors.items()}
    assert loaded.by_day(_RAW.format("count(DISTINCT visitor)")) == visitors
    views = "count(*) FILTER (WHERE event = 'view_item')"
    assert loaded.by_day(_RAW.format(views)) == wanted.product_views
    orders = "count(*) FILTER (WHERE event = 'purchase' AND counted)"
    assert loaded.by_day(_RAW.format(orders)) == wanted.orders


def test_the_rollups_count_what_the_file_holds(loaded: Loaded, wanted: Days) -> None:
    assert loaded.by_day(_ROLLUP.format("events")) == wanted.events
    views = "events) FILTER (WHERE event = 'view_item'"
    assert loaded.by_day(_ROLLUP.format(views)) == wanted.product_views
    assert loaded.by_day(_ROLLUP.format("orders")) == wanted.orders


def test_the_products_rollup_knows_both(loaded: Loaded, wanted: Days) -> None:
    assert loaded.by_day(_PRODUCTS) == wanted.product_views


def test_visitors_are_within_the_registers_error(loaded: Loaded, wanted: Days) -> None:
    found = loaded.by_day(_VISITORS)
    off = {
        day: (len(who), found.get(day, 0))
        for day, who in wanted.visitors.items()
        if abs(found.get(day, 0) - len(who)) > max(3, TOLERANCE * len(who))
    }
    assert found.keys() == wanted.visitors.keys()
    assert not off, f"day: (visitors, estimate): {off}"


_DAY = "(bucket AT TIME ZONE 'UTC')::date"
_RAW = """
SELECT (ts AT TIME ZONE 'UTC')::date, {} FROM events
 WHERE merchant_id = %(m)s AND NOT is_bot GROUP BY 1
"""
_ROLLUP = f"SELECT {_DAY}, sum({{}}) FROM traffic_daily WHERE merchant_id = %(m)s GROUP BY 1"
_PRODUCTS = f"""
SELECT {_DAY}, sum(events) FROM product_daily
 WHERE merchant_id = %(m)s AND event = 'view_item' GROUP BY 1
"""
_VISITORS = f"""
SELECT {_DAY}, visitor_estimate(count(*), sum(2.0 ^ -visitor_rank)) FROM visitor_daily
 WHERE merchant_id = %(m)s GROUP BY 1
"""
