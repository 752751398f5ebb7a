"""The arithmetic of sizing, on figures whose answers can be reckoned by hand."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from footfall.cli import app
from footfall.size import Demand, Machines, figures, size

BY_HAND = {
    "kafka_bytes": 100.0,
    "rowstore_bytes": 500.0,
    "columnstore_bytes": 50.0,
    "rollup_bytes": 20.0,
    "rollup_columnstore_bytes": 4.0,
    "wal_bytes": 600.0,
    "consume_ns": 2000.0,
    "process_ns": 7000.0,
    "send_ns": 1000.0,
    "store_ns": 6000.0,
    "refresh_ns": 3000.0,
    "compress_ns": 600.0,
    "rollup_compress_ns": 400.0,
    "answer_database_ns": 1e6,
    "answer_api_ns": 2e6,
}
DEMAND = Demand(86_400e6, 86_400e3, days=107, peak=2, busy=0.5)  # a million events a second


def test_cores_are_the_peaks_nanoseconds_over_what_a_core_may_be_busy() -> None:
    found = size(DEMAND, Machines(), BY_HAND)
    assert found.peak_events_per_second == 2e6
    assert found.ingester_cores == 40
    assert found.api_cores == 8
    # 36 for storing and refreshing, 2 for compressing, 4 for answers
    assert found.cores_per_shard * found.shards >= 42


def test_disks_hold_every_copy() -> None:
    found = size(DEMAND, Machines(), BY_HAND)
    events = 86_400e6 / 1e12
    assert found.kafka_tb == pytest.approx(events * 108 * 100 * 3)
    assert found.rowstore_tb == pytest.approx(events * 7 * 500 * 2)
    assert found.columnstore_tb == pytest.approx(events * 100 * 50 * 2)
    assert found.rollup_tb == pytest.approx(events * (12 * 20 + 95 * 4) * 2)
    assert found.brokers == -(-found.kafka_tb // 15)


def test_what_needs_most_decides() -> None:
    assert size(DEMAND, Machines(shard_disk_tb=1e6), BY_HAND).shards_because == "cores"
    assert size(DEMAND, Machines(shard_cores=10**6), BY_HAND).shards_because == "disk"
    small = size(Demand(1e6, 1e6), Machines(), BY_HAND)
    assert (small.brokers, small.brokers_because) == (3, "copies")
    assert (small.shards, small.shards_because) == (1, "one is enough")


def test_partitions_are_shared_evenly_and_enough_for_the_ingesters() -> None:
    found = size(DEMAND, Machines(), BY_HAND)
    assert found.partitions >= found.ingester_cores
    assert found.partitions % found.shards == 0


def test_a_cost_needs_prices() -> None:
    assert size(DEMAND, Machines(), BY_HAND).monthly_cost is None
    found = size(DEMAND, Machines(price_core=10, price_gb=0.1), BY_HAND)
    assert found.monthly_cost == pytest.approx(found.cores * 10 + found.disk_tb * 1000 * 0.1)


def test_twice_the_events_take_twice_the_bytes() -> None:
    once = size(DEMAND, Machines(), figures())
    twice = size(replace(DEMAND, events_per_day=2 * DEMAND.events_per_day), Machines(), figures())
    assert twice.kafka_tb == pytest.approx(2 * once.kafka_tb)


def test_every_figure_says_where_it_came_from() -> None:
    from footfall.size import FIGURES

    held = json.loads(FIGURES.read_text())
    assert held.keys() == BY_HAND.keys()
    assert all(entry["value"] > 0 and entry["from"].startswith("bench.") for entry in held.values())


def test_the_command_takes_numbers_as_people_write_them() -> None:
    words = ["size", "--events-per-day", "10e9", "--questions-per-day", "100e6", "--json"]
    told = json.loads(CliRunner().invoke(app, words).stdout)
    assert told["events_per_second"] == pytest.approx(115_740.7, abs=1)
    assert told["monthly_cost"] is None
