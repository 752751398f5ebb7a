"""A database filled with shops, and an API in front of it: what the benchmarks of questions ask."""

import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import numpy as np
import psycopg

from bench import VISITOR_HASH
from db.ledger import Span, held_offsets
from db.migrate import migrate
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import refresh_late
from db.retry import patiently
from events.batch import Messages
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import process
from footfall.simulate import DAY_MS, Shops
from ingester.batch import Batch, Ready
from ingester.load import Loader
from tests import servers
from tests.processes import footfall, free_port

TOPIC, TOPIC_ID = "bench.query", "bench"


@dataclass(frozen=True, slots=True)
class Served:
    """A running API over a filled database, and an operator's key for it."""

    dsn: str
    url: str
    key: str
    pid: int  # of the server, whose children its workers are


def messages(values: list[bytes], first_offset: int) -> Messages:
    """Values as they would be read from one partition, logged now."""
    count = len(values)
    logged = np.full(count, int(time.time() * 1000), np.int64)
    offsets = np.arange(first_offset, first_offset + count)
    return Messages(list(values), np.zeros(count, np.int32), offsets, logged)


def alike(merchants: int, events: int, days: int) -> list[bytes]:
    """Events of shops of one size: no lucky dips among them."""
    now = int(time.time() * 1000)
    made = Shops(list(range(1, merchants + 1)), 1).messages(events, now - days * DAY_MS, now)
    return [
        re.sub(rb'^\{"merchant_id": \d+, ', b'{"merchant_id": %d, ' % (n % merchants + 1), value)
        for n, (_, value) in enumerate(made)
    ]


def by_size(merchants: int, events: int, days: float, seed: int = 1) -> list[bytes]:
    """Events of shops of which a few are large and most are small (Zipf's law, exponent 1)."""
    now = int(time.time() * 1000)
    made = Shops([1], seed).messages(events, now - int(days * DAY_MS), now)
    weights = 1 / np.arange(1, merchants + 1)
    chosen = (
        np.random.default_rng(seed).choice(merchants, events * 2, p=weights / weights.sum()) + 1
    )
    return [
        re.sub(rb'^\{"merchant_id": \d+, ', b'{"merchant_id": %d, ' % merchant, value)
        for merchant, (_, value) in zip(chosen, made, strict=False)
    ]


async def load(pool: asyncpg.Pool, loader: Loader, read: Messages, logged: datetime) -> None:
    """One transaction of the ingester's: rows, fence and ledger."""
    first = int(read.offsets[0])
    span = Span(0, first, first + len(read), logged)
    ready = Ready(
        Batch(read, (span,)), process(read, limits=Limits(), enrichment=Enrichment(VISITOR_HASH))
    )
    await loader.load(ready)


async def fill(dsn: str, values: list[bytes]) -> None:
    """The events into the tables and the rollups, with the ledger's lines."""
    pool = await open_pool(dsn, WRITER_SETTINGS, size=2, command_timeout=900)
    await held_offsets(pool, TOPIC, TOPIC_ID, {0: 0})
    loader = Loader(pool, TOPIC_ID, timedelta(minutes=15))
    for start in range(0, len(values), 200_000):
        part = messages(values[start : start + 200_000], start)
        await load(pool, loader, part, datetime.now(UTC))
    await patiently(partial(refresh_late, pool, math.inf))  # a policy may be at it
    await pool.execute("VACUUM ANALYZE")
    await pool.close()


@contextmanager
def database() -> Iterator[str]:
    """An empty database with today's schema, of one partition."""
    with servers.shards(1) as (dsn,):
        migrate([dsn], 1)
        yield dsn


@contextmanager
def served(dsn: str, merchants: int, workers: int, **more: str) -> Iterator[Served]:
    """The API as `footfall serve` runs it, over so many merchants."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO merchant (name, timezone, currency) "
            "SELECT 'shop ' || n, 'UTC', 'EUR' FROM generate_series(1, %s) AS n",
            (merchants,),
        )
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {
            "FOOTFALL_SHARDS": dsn,
            "FOOTFALL_KAFKA_BOOTSTRAP": "127.0.0.1:1",  # nothing is written by way of it here
            "FOOTFALL_TOPIC": TOPIC,
            "FOOTFALL_API_PORT": str(port),
            "FOOTFALL_DATA_DIR": folder,
            "FOOTFALL_REQUESTS_PER_MINUTE": "100000000",
            **more,
        }
        made = subprocess.run(
            [sys.executable, "-m", "footfall", "keys", "create", "--admin", "--json"],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
        )
        key = re.search(r"ff_[\w-]+", made.stdout).group()  # type: ignore[union-attr]  # the key
        with footfall("serve", "--workers", str(workers), environment=environment) as process:
            process.wait_for("serving")
            yield Served(dsn, f"http://127.0.0.1:{port}", key, process.pid)
