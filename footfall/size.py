"""How many machines a load needs: arithmetic over measured figures, one line a step.

The figures stand in `figures.json`, each with where it came from; `python -m bench.size` measures
them anew. docs/sizing.md explains the arithmetic.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FIGURES: Final = Path(__file__).with_name("figures.json")
DAY_S: Final = 86_400
TB: Final = 1e12


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the system."""

    events_per_day: float
    questions_per_day: float
    days: int = 365
    peak: float = 2.0  # the busiest hour over the mean
    busy: float = 0.6  # of a core, at the peak: the rest is for replays, failures and luck
    replication: int = 3  # copies in the log
    copies: int = 2  # of each shard: primary and replica
    columnstore_after_days: int = 7
    # A rollup's chunk is of ten days, and all of it must be old enough: on average another five.
    rollup_columnstore_after_days: int = 12


@dataclass(frozen=True, slots=True)
class Machines:
    """What can be had, and what it costs a month. Prices are yours: there is no default."""

    broker_disk_tb: float = 15
    broker_mb_s: float = 250  # written, copies of other brokers too
    shard_cores: int = 32
    shard_disk_tb: float = 15
    price_core: float | None = None
    price_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """What it takes. Bytes are with every copy; cores are whole ones, for the peak."""

    events_per_second: float
    peak_events_per_second: float
    peak_questions_per_second: float
    kafka_tb: float
    brokers: int
    brokers_because: str
    partitions: int
    ingester_cores: int
    api_cores: int
    rowstore_tb: float
    columnstore_tb: float
    rollup_tb: float
    shards: int
    shards_because: str
    cores_per_shard: int
    disk_tb_per_shard: float
    cores: int
    disk_tb: float
    monthly_cost: float | None


def figures(file: Path = FIGURES) -> dict[str, float]:
    """The measured figures, by name."""
    return {name: float(entry["value"]) for name, entry in json.loads(file.read_text()).items()}


def size(demand: Demand, machines: Machines, measured: dict[str, float]) -> Size:
    """The machines that a demand needs."""
    events_s = demand.events_per_day / DAY_S
    peak_s = events_s * demand.peak
    questions_s = demand.questions_per_day / DAY_S * demand.peak

    def cores(per_second: float, *names: str) -> float:
        return per_second * sum(measured[name] for name in names) / 1e9 / demand.busy

    kafka_tb = (
        demand.events_per_day * (demand.days + 1) * measured["kafka_bytes"] * demand.replication
    ) / TB
    written_mb_s = peak_s * measured["kafka_bytes"] * demand.replication / 1e6
    brokers, brokers_because = _most(
        (kafka_tb / machines.broker_disk_tb, "disk"),
        (written_mb_s / machines.broker_mb_s, "bytes written a second"),
        (float(demand.replication), "copies"),
    )
    ingesters = cores(peak_s, "consume_ns", "process_ns", "send_ns")
    stored = cores(peak_s, "store_ns", "refresh_ns")
    # by policy, at any hour
    compressed = cores(events_s, "compress_ns", "rollup_compress_ns")
    answered = cores(questions_s, "answer_database_ns")

    per_day = demand.events_per_day / TB
    hot = min(demand.columnstore_after_days, demand.days)
    rowstore = per_day * hot * measured["rowstore_bytes"]
    columnstore = per_day * (demand.days - hot) * measured["columnstore_bytes"]
    hot = min(demand.rollup_columnstore_after_days, demand.days)
    rollup_rows = per_day * hot * measured["rollup_bytes"]
    rollups = rollup_rows + per_day * (demand.days - hot) * measured["rollup_columnstore_bytes"]
    wal = per_day * measured["wal_bytes"]  # a day of it, for replicas and restore
    data = rowstore + columnstore + rollups + wal
    shards, shards_because = _most(
        (data / 0.7 / machines.shard_disk_tb, "disk"),  # a tenth for sorting, two for growth
        ((stored + compressed + answered) / machines.shard_cores, "cores"),
        (1.0, "one is enough"),
    )
    cores_per_shard = math.ceil((stored + compressed + answered) / shards)
    disk_per_shard = data / 0.7 / shards
    ingester_cores = math.ceil(ingesters)
    api_cores = math.ceil(cores(questions_s, "answer_api_ns"))
    broker_cores = brokers * 8
    all_cores = broker_cores + ingester_cores + api_cores + cores_per_shard * shards * demand.copies
    disk = kafka_tb + disk_per_shard * shards * demand.copies
    cost = None
    if machines.price_core is not None and machines.price_gb is not None:
        cost = all_cores * machines.price_core + disk * 1000 * machines.price_gb
    return Size(
        events_per_second=events_s,
        peak_events_per_second=peak_s,
        peak_questions_per_second=questions_s,
        kafka_tb=kafka_tb,
        brokers=brokers,
        brokers_because=brokers_because,
        # An ingester's core keeps up with a partition; a shard holds whole partitions.
        partitions=math.ceil(max(ingester_cores, shards) / shards) * shards,
        ingester_cores=ingester_cores,
        api_cores=api_cores,
        rowstore_tb=rowstore * demand.copies,
        columnstore_tb=columnstore * demand.copies,
        rollup_tb=rollups * demand.copies,
        shards=shards,
        shards_because=shards_because,
        cores_per_shard=cores_per_shard,
        disk_tb_per_shard=disk_per_shard,
        cores=all_cores,
        disk_tb=disk,
        monthly_cost=cost,
    )


def _most(*needs: tuple[float, str]) -> tuple[int, str]:
    """The greatest need, rounded up, and what it is for."""
    count, why = max(needs)
    return math.ceil(count), why
