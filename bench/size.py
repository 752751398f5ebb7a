"""Bytes and CPU an event, where it lies and at each step; writes `footfall/figures.json`.

    python -m bench.size [--merchants 50] [--events-per-merchant-day 2000] [--days 4]

FOOTFALL_TEST_SHARDS names a TimescaleDB server on this machine (a database of its own is made
there); the broker is the embedded one, whose files can be weighed. CPU is that of our process and
of the one server process that works for it, not the wall's clock: what others do here meanwhile
does not count.
"""

import argparse
import asyncio
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import structlog
from rich.console import Console
from rich.table import Table

from bench import VISITOR_HASH
from bench.shops import alike
from db.ledger import Span, held_offsets
from db.migrate import migrate
from db.pools import INGEST_SETTINGS, open_pool
from db.refresh import refresh_late
from db.retry import patiently
from db.rollups import ROLLUPS
from events.batch import Messages
from events.enrich import Enrichment
from events.limits import Limits
from events.lines import key_of
from events.transform import process
from footfall.size import FIGURES
from footfall.topic import TopicWriter, ensure_topic
from ingester.batch import Batch, Ready
from ingester.load import Loader
from stack.broker import Broker
from tests import servers

TOPIC = "bench.size"
BATCH = 50_000
console = Console()
Took = dict[str, float]


def in_kafka(messages: Messages) -> float:
    """Bytes of the messages in the log, zstd, as our producers write them."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            ensure_topic(broker.bootstrap, TOPIC, 4, {})
            writer = TopicWriter(broker.bootstrap, TOPIC, {})
            for value in messages.values:
                writer.write(key_of(value or b""), value)
            writer.flush()
        finally:
            broker.stop()
        return sum(file.stat().st_size for file in Path(folder).glob(f"log/{TOPIC}-*/*.log"))


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def timed(took: Took, name: str, pid: int | None = None) -> Iterator[None]:
    """Add the CPU seconds of our process, or of another, to a step's."""

    def now() -> float:
        if pid is not None:
            return cpu_of(pid)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    began = now()
    yield
    took[name] = took.get(name, 0.0) + now() - began


async def in_database(dsn: str, messages: Messages) -> tuple[dict[str, float], Took]:
    """Bytes of rows, columns, rollups and WAL, and CPU seconds of each step."""
    took: Took = {}
    patient = {**INGEST_SETTINGS, "statement_timeout": "0"}
    pool = await open_pool(dsn, patient, size=1, command_timeout=3600)
    await held_offsets(pool, TOPIC, "size", {0: 0})
    pid = await pool.fetchval("SELECT pg_backend_pid()")
    began = await pool.fetchval("SELECT pg_current_wal_lsn()")
    loader = Loader(pool, "size", timedelta(minutes=15))
    for start in range(0, len(messages), BATCH):
        places = np.arange(start, min(start + BATCH, len(messages)))
        part = messages.take(places)
        with timed(took, "process_ns"):
            processed = process(part, limits=Limits(), enrichment=Enrichment(VISITOR_HASH))
        span = Span(0, start, start + len(part), datetime.now(UTC))
        with timed(took, "send_ns"), timed(took, "store_ns", pid):
            await loader.load(Ready(Batch(part, (span,)), processed))
    await pool.execute("VACUUM")
    found = {
        "wal_bytes": float(
            await pool.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1)", began)
        ),
        "rowstore_bytes": await size_of(pool, "events", "event_items"),
    }
    with timed(took, "refresh_ns", pid):
        await refreshed(pool)
    found["rollup_bytes"] = await size_of(pool, *(rollup.name for rollup in ROLLUPS))
    with timed(took, "compress_ns", pid):
        await pack(pool, "events", "event_items")
    found["columnstore_bytes"] = await size_of(pool, "events", "event_items")
    with timed(took, "rollup_compress_ns", pid):
        await pack(pool, *(rollup.name for rollup in ROLLUPS))
    found["rollup_columnstore_bytes"] = await size_of(pool, *(rollup.name for rollup in ROLLUPS))
    pool.terminate()
    return found, took


async def refreshed(pool: asyncpg.Pool) -> None:
    """The rollups, once no policy of the server's is in the way."""
    while True:
        try:
            await patiently(partial(refresh_late, pool, math.inf))  # a policy may be at it
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(0.2)
        else:
            return


async def pack(pool: asyncpg.Pool, *relations: str) -> None:
    """Every chunk into the columnstore, as the policies do with those that are old enough."""
    for relation in relations:
        await pool.execute(
            "SELECT compress_chunk(chunk, if_not_compressed => true) "
            "FROM show_chunks($1::text::regclass) AS chunk",
            relation,
        )


async def size_of(pool: asyncpg.Pool, *relations: str) -> float:
    """Bytes of hypertables or continuous aggregates, indexes too."""
    return float(
        await pool.fetchval(
            "SELECT sum(hypertable_size(name::regclass)) FROM unnest($1::text[]) AS name",
            list(relations),
        )
    )


def write(measured: dict[str, float], source: str) -> None:
    """The figures into their file; those of other benchmarks stay."""
    held: dict[str, dict[str, Any]] = json.loads(FIGURES.read_text())
    for name, value in measured.items():
        unit = "core-nanoseconds an event" if name.endswith("_ns") else "bytes an event"
        held[name] = {"value": round(value, 1), "unit": unit, "from": source}
    FIGURES.write_text(json.dumps(held, indent=2) + "\n")


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--merchants", type=int, default=50)
    parser.add_argument("--events-per-merchant-day", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=4)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        sys.exit("FOOTFALL_TEST_SHARDS is not set: the embedded database is not what is sized")
    count = asked.merchants * asked.events_per_merchant_day * asked.days
    values: list[bytes | None] = [*alike(asked.merchants, count, asked.days)]
    logged = np.full(count, int(time.time() * 1000), np.int64)
    messages = Messages(values, np.zeros(count, np.int32), np.arange(count), logged)
    log_bytes = in_kafka(messages)
    with servers.shards(1) as (dsn,):
        migrate([dsn], 1)
        found, took = asyncio.run(in_database(dsn, messages))
    measured = {"kafka_bytes": log_bytes / count}
    measured |= {name: value / count for name, value in found.items()}
    measured |= {name: seconds / count * 1e9 for name, seconds in took.items()}
    source = (
        f"bench.size, {datetime.now(UTC).date()}: {count:,} simulated events, "
        f"{asked.merchants} merchants with {asked.events_per_merchant_day:,} a day each"
    )
    write(measured, source)
    table = Table("figure", "an event")
    for name, value in measured.items():
        table.add_row(name, f"{value:,.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
