"""What the columnstore of the rollups costs and saves: the API's questions before and after.

    python -m bench.columnstore [--merchants 50] [--events 400000] [--days 35] [--rounds 3]

FOOTFALL_TEST_SHARDS names a TimescaleDB server on this machine (a database of its own is made
there). The statements that the API sends are asked by one session, prepared, each time for another
merchant, while all chunks of the rollups are rows and while they are columns, in turn. What counts
is the CPU of the server process, which does not hang on what else the machine does. A refresh of
one old hour, or day, of every rollup is weighed too: what a late event costs.
"""

import argparse
import asyncio
import os
import statistics
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import structlog
from rich.console import Console
from rich.table import Table

from api.query.language import QueryBody, understand
from api.query.plan import plan
from api.query.sql import Statement
from api.query.trip import in_one_trip
from bench.shops import TOPIC, alike, database, fill
from bench.size import cpu_of
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import refresh
from db.rollups import ROLLUPS
from db.windows import floor_to

_SALES: Final = ["page_views", "orders", "revenue"]
QUESTIONS: Final[dict[str, dict[str, Any]]] = {
    "28 days, three metrics by day": {"metrics": _SALES, "dimensions": ["time:day"]},
    "28 days, three metrics by hour": {"metrics": _SALES, "dimensions": ["time:hour"]},
    "28 days, visitors by day": {"metrics": ["visitors"], "dimensions": ["time:day"]},
    "28 days, visitors by hour": {"metrics": ["visitors"], "dimensions": ["time:hour"]},
    "28 days, visitors in all": {"metrics": ["visitors"]},
    "28 days, pages": {"metrics": ["page_views"], "dimensions": ["page"]},
    "28 days, channels": {"metrics": ["sessions", "bounce_rate"], "dimensions": ["channel"]},
}
BOTH: Final = (False, True)  # whether the rollups are columns
console = Console()


def statement_of(question: dict[str, Any], merchant: int) -> Statement:
    """What the API sends."""
    body = QueryBody(date_range="28d", timezone="UTC", limit=10_000, **question)
    understood = understand(body, merchant, "UTC", "EUR", datetime.now(UTC))
    return in_one_trip(understood, plan(understood), 0, TOPIC)


async def weighed(
    pool: asyncpg.Pool, times: int, work: Callable[[int], Awaitable[object]]
) -> float:
    """The server process's CPU of one go, in ms."""
    pid = await pool.fetchval("SELECT pg_backend_pid()")
    began = cpu_of(pid)
    for number in range(times):
        await work(number)
    return (cpu_of(pid) - began) / times * 1000


async def ask(pool: asyncpg.Pool, question: dict[str, Any], merchants: int, times: int) -> float:
    """CPU ms of a question."""

    async def once(number: int) -> None:
        statement = statement_of(question, number % merchants + 1)
        if not await pool.fetch(statement.text, *statement.parameters):
            raise SystemExit(f"no answer: {question}")

    await weighed(pool, 10, once)  # the first ones prepare and plan
    return await weighed(pool, times, once)


async def size_of_rollups(pool: asyncpg.Pool) -> dict[str, int]:
    """Bytes of each, indexes too."""
    return {
        rollup.name: await pool.fetchval("SELECT hypertable_size($1::text::regclass)", rollup.name)
        for rollup in ROLLUPS
    }


async def late(pool: asyncpg.Pool, _: int) -> None:
    """One old bucket of every rollup, made again."""
    async with pool.acquire() as connection:
        for rollup in ROLLUPS:
            start = floor_to(rollup.bucket, datetime.now(UTC) - timedelta(days=12))
            await refresh(connection, rollup, start, start + rollup.bucket, force=True)


async def turn(pool: asyncpg.Pool, *, into_columns: bool) -> None:
    """All chunks of the rollups into columns, as the policy would one day, or back into rows."""
    turned = "compress_chunk" if into_columns else "decompress_chunk"
    for rollup in ROLLUPS:
        await pool.execute(
            f"SELECT {turned}(chunk, true) FROM show_chunks($1::text::regclass) AS chunk",
            rollup.name,
        )
    await pool.execute("VACUUM ANALYZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--merchants", type=int, default=50)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--days", type=int, default=35)
    parser.add_argument("--times", type=int, default=100, help="a question is asked in a round")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        sys.exit("FOOTFALL_TEST_SHARDS is not set: the embedded database is not what is measured")
    with database() as dsn:
        asyncio.run(fill(dsn, alike(asked.merchants, asked.events, asked.days)))
        asyncio.run(_measured(dsn, asked))


async def _measured(dsn: str, asked: argparse.Namespace) -> None:
    settings = {**WRITER_SETTINGS, "statement_timeout": "0", "jit": "off"}
    pool = await open_pool(dsn, settings, size=1, command_timeout=900)
    took: dict[str, dict[bool, list[float]]] = {}
    disk: dict[bool, dict[str, int]] = {}

    async def note(name: str, *, packed: bool, ms: Awaitable[float]) -> None:
        took.setdefault(name, {each: [] for each in BOTH})[packed].append(await ms)

    for _ in range(asked.rounds):
        for packed in BOTH:
            await turn(pool, into_columns=packed)
            disk[packed] = await size_of_rollups(pool)
            for name, question in QUESTIONS.items():
                ms = ask(pool, question, asked.merchants, asked.times)
                await note(name, packed=packed, ms=ms)
            bucket = weighed(pool, 1, lambda number: late(pool, number))
            await note("an old bucket of every rollup again", packed=packed, ms=bucket)
    pool.terminate()
    times = Table("CPU ms of the server, median", "rows", "columns")
    for name, both in took.items():
        times.add_row(name, *(f"{statistics.median(both[packed]):.1f}" for packed in BOTH))
    console.print(times)
    sizes = Table("rollup, bytes an event", "rows", "columns")
    for name in disk[False]:
        sizes.add_row(name, *(f"{disk[packed][name] / asked.events:.1f}" for packed in BOTH))
    total = [sum(disk[packed].values()) / asked.events for packed in BOTH]
    sizes.add_row("all", *(f"{each:.1f}" for each in total))
    console.print(sizes)


if __name__ == "__main__":
    main()
