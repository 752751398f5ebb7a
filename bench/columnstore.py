"""What the columnstore of the rollups costs and saves: the API's questions before and after.

    python -m bench.columnstore [--merchants 50] [--events 600000] [--days 35] [--requests 150]

FOOTFALL_TEST_SHARDS names a TimescaleDB server (a database of its own is made there). One API
worker, no kept answers, one request at a time, each of another merchant; the same questions are
asked while all chunks of the rollups are rows, and again while they are columns. A refresh of one
old hour, or day, of every rollup is timed too: what a late event costs.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import httpx
import structlog
from rich.console import Console
from rich.table import Table

from bench.shops import alike, database, fill, served
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import floor_to, refresh
from db.rollups import ROLLUPS

QUESTIONS: Final = {
    "28 days, three metrics by day": "timeseries?interval=day&metrics=page_views,orders,revenue",
    "28 days, three metrics by hour": "timeseries?interval=hour&metrics=page_views,orders,revenue",
    "28 days, visitors by day": "timeseries?interval=day&metrics=visitors",
    "28 days, visitors in all": "summary?metrics=visitors",
    "28 days, top pages": "breakdown?dimension=page&metrics=page_views&limit=10",
    "28 days, channels with sessions": "breakdown?dimension=channel&metrics=sessions,bounce_rate",
}
console = Console()
Times = dict[str, tuple[float, float]]


async def ask(url: str, key: str, merchants: int, requests: int) -> Times:
    """Median and 95th percentile of each question, in ms."""
    found: Times = {}
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        for name, question in QUESTIONS.items():
            took = []
            for number in range(requests + 10):
                path = f"/v1/merchants/{number % merchants + 1}/{question}&date_range=28d"
                began = time.perf_counter()
                answer = await client.get(path)
                took.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
            took = sorted(took[10:])  # the first ones prepare statements
            found[name] = (statistics.median(took), took[len(took) * 95 // 100])
    return found


async def size_of_rollups(pool: asyncpg.Pool) -> dict[str, int]:
    """Bytes of each, indexes too."""
    return {
        rollup.name: await pool.fetchval("SELECT hypertable_size($1::text::regclass)", rollup.name)
        for rollup in ROLLUPS
    }


async def late(pool: asyncpg.Pool) -> float:
    """Seconds to make one old bucket of every rollup again."""
    began = time.perf_counter()
    async with pool.acquire() as connection:
        for rollup in ROLLUPS:
            start = floor_to(rollup.bucket, datetime.now(UTC) - timedelta(days=12))
            await refresh(connection, rollup, start, start + rollup.bucket, force=True)
    return time.perf_counter() - began


async def pack(pool: asyncpg.Pool) -> None:
    """Every rollup's chunks into the columnstore, as the policy would one day."""
    for rollup in ROLLUPS:
        await pool.execute(
            "SELECT compress_chunk(chunk) FROM show_chunks($1::text::regclass) AS chunk",
            rollup.name,
        )
    await pool.execute("VACUUM ANALYZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--merchants", type=int, default=50)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--days", type=int, default=35)
    parser.add_argument("--requests", type=int, default=150)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        sys.exit("FOOTFALL_TEST_SHARDS is not set: the embedded database is not what is measured")
    with database() as dsn:
        asyncio.run(fill(dsn, alike(asked.merchants, asked.events, asked.days)))
        with served(dsn, asked.merchants, 1, FOOTFALL_CACHE_MS="0") as api:
            asyncio.run(_measured(dsn, api.url, api.key, asked))


async def _measured(dsn: str, url: str, key: str, asked: argparse.Namespace) -> None:
    pool = await open_pool(dsn, WRITER_SETTINGS, size=1, command_timeout=900)
    await pool.execute("SET statement_timeout = 0")
    found = []
    for packed in (False, True):
        if packed:
            await pack(pool)
        sizes = await size_of_rollups(pool)
        answers = await ask(url, key, asked.merchants, asked.requests)
        found.append((sizes, answers, await late(pool)))
    pool.terminate()
    (rows, before, late_rows), (columns, after, late_columns) = found
    times = Table("question", "rows p50", "p95 ms", "columns p50", "p95 ms")
    for name in QUESTIONS:
        times.add_row(name, *(f"{ms:.1f}" for ms in (*before[name], *after[name])))
    console.print(times)
    disk = Table("rollup, bytes an event", "rows", "columns")
    for name, size in rows.items():
        disk.add_row(name, f"{size / asked.events:.1f}", f"{columns[name] / asked.events:.1f}")
    total = [sum(each.values()) / asked.events for each in (rows, columns)]
    disk.add_row("all", *(f"{each:.1f}" for each in total))
    console.print(disk)
    console.print(f"an old bucket of every rollup: {late_rows:.2f} s, {late_columns:.2f} s")


if __name__ == "__main__":
    main()
