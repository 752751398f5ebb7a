"""A 7-day hourly series over HTTP, beside pgbench running the same SQL.

    python -m bench.query [--seconds 10] [--runs 3] [--metrics page_views,orders,revenue]

FOOTFALL_TEST_SHARDS names a TimescaleDB server (a database of its own is made there); `wrk` and
`pgbench` must be on the PATH. The API runs as one granian worker, uncached, and each request asks
for another of 50 merchants. pgbench runs the statement that the API sends, prepared, with the same
parameters: what is above its rate cannot be had, what lies between is what HTTP, checks, freshness
and the answer's making cost.
"""

import argparse
import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import structlog
from rich.console import Console
from rich.table import Table

from api.query.language import QueryBody, understand
from api.query.plan import plan
from api.query.sql import Statement
from api.query.trip import in_one_trip
from db.ledger import Span, held_offsets
from db.migrate import migrate
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import refresh_late
from events.batch import Messages
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import process
from footfall.simulate import DAY_MS, Shops
from ingester.batch import Batch, Ready
from ingester.load import Loader
from tests import servers
from tests.processes import footfall
from tests.service import free_port

MERCHANTS = 50
DAYS = 8
TOPIC, TOPIC_ID = "bench.query", "bench"
CONNECTIONS = 32
console = Console()


def messages(events: int) -> Messages:
    """Events of all merchants over the last days, as they would be read from one partition."""
    now = int(time.time() * 1000)
    shops = Shops(list(range(1, MERCHANTS + 1)), 1)
    values: list[bytes | None] = []
    for merchant, (_, value) in enumerate(shops.messages(events, now - DAYS * DAY_MS, now)):
        own = b'{"merchant_id": %d, ' % (merchant % MERCHANTS + 1)  # sizes alike: no lucky dips
        values.append(re.sub(rb'^\{"merchant_id": \d+, ', own, value))
    count = len(values)
    return Messages(
        values, np.zeros(count, np.int32), np.arange(count), np.full(count, now, np.int64)
    )


async def fill(dsn: str, events: int) -> None:
    """The events into the tables and the rollups, with the ledger's lines."""
    pool = await open_pool(dsn, WRITER_SETTINGS, size=2, command_timeout=600)
    read = messages(events)
    await held_offsets(pool, TOPIC, TOPIC_ID, {0: 0})
    span = Span(0, 0, len(read), datetime.now(UTC))
    ready = Ready(Batch(read, (span,)), process(read, limits=Limits(), enrichment=Enrichment()))
    await Loader(pool, TOPIC_ID, timedelta(minutes=15)).load(ready)
    await refresh_late(pool)
    await pool.execute("VACUUM ANALYZE")
    await pool.close()


@dataclass(frozen=True, slots=True)
class Rate:
    """What a run gave."""

    per_second: float
    p50_ms: float
    p99_ms: float


def over_http(url: str, key: str, path: str, seconds: int) -> Rate:
    """wrk, each request another merchant."""
    script = f"""
        local n = 0
        wrk.headers["Authorization"] = "Bearer {key}"
        function request()
            n = n + 1
            return wrk.format("GET", "/v1/merchants/" .. (n % {MERCHANTS} + 1) .. "{path}")
        end
        done = function(summary, latency, requests)
            io.write(string.format("RATE %f %f %f %d\\n",
                summary.requests / summary.duration * 1e6, latency:percentile(50) / 1000,
                latency:percentile(99) / 1000,
                summary.errors.status + summary.errors.connect + summary.errors.timeout))
        end
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        told = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", file.name, url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    rate, p50, p99, errors = re.search(r"RATE (\S+) (\S+) (\S+) (\d+)", told).groups()  # type: ignore[union-attr]  # the script prints it
    if errors != "0":
        raise SystemExit(f"{errors} requests failed:\n{told}")
    return Rate(float(rate), float(p50), float(p99))


def by_pgbench(dsn: str, statement: Statement, seconds: int) -> Rate:
    """The statement, prepared, for a random merchant; eight clients."""
    text = re.sub(r"\$(\d+)", r":p\1", statement.text).replace(":p1::", ":merchant::")
    given = [f"-Dp{n}={value}" for n, value in enumerate(statement.parameters, 1) if n > 1]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "query.sql"
        script.write_text(f"\\set merchant random(1, {MERCHANTS})\n{text};\n")
        told = subprocess.run(
            [
                *("pgbench", "-n", "-M", "prepared", "-c8", "-j2", f"-T{seconds}", *given),
                *("-l", f"--log-prefix={folder}/log", "-f", str(script), dsn),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        took = sorted(
            int(line.split()[2]) / 1000
            for log in Path(folder).glob("log.*")
            for line in log.read_text().splitlines()
        )
    rate = float(re.search(r"tps = (\S+)", told).group(1))  # type: ignore[union-attr]  # pgbench prints it
    return Rate(rate, took[len(took) // 2], took[len(took) * 99 // 100])


def statement_of(metrics: list[str]) -> Statement:
    """What the API sends for the question."""
    body = QueryBody(
        metrics=metrics, dimensions=["time:hour"], date_range="7d", timezone="UTC", limit=10_000
    )
    question = understand(body, 1, "UTC", "EUR", datetime.now(UTC))
    return in_one_trip(question, plan(question), 0, TOPIC)


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--metrics", default="page_views,orders,revenue")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    for tool in ("wrk", "pgbench"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not on the PATH: install it (Debian: wrk, postgresql-contrib)")
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        sys.exit("FOOTFALL_TEST_SHARDS is not set: pgbench needs a server of several sessions")
    statement = statement_of(asked.metrics.split(","))
    path = f"/timeseries?interval=hour&date_range=7d&timezone=UTC&metrics={asked.metrics}"
    with servers.shards(1) as (dsn,), tempfile.TemporaryDirectory() as folder:
        migrate([dsn], 1)
        asyncio.run(fill(dsn, asked.events))
        port = free_port()
        environment = {
            "FOOTFALL_SHARDS": dsn,
            "FOOTFALL_KAFKA_BOOTSTRAP": "127.0.0.1:1",  # nothing is written here
            "FOOTFALL_TOPIC": TOPIC,
            "FOOTFALL_API_PORT": str(port),
            "FOOTFALL_DATA_DIR": folder,
            "FOOTFALL_REQUESTS_PER_MINUTE": "100000000",
        }
        url = f"http://127.0.0.1:{port}"
        key = keys(environment)
        with footfall("serve", environment=environment) as process:
            process.wait_for("serving")
            answer = httpx.get(
                f"{url}/v1/merchants/1{path}", headers={"Authorization": f"Bearer {key}"}
            )
            answer.raise_for_status()
            points = len(answer.json()["rows"])
            ours, theirs = [], []
            for _ in range(asked.runs):  # interleaved: the machine's mood falls on both alike
                ours.append(over_http(url, key, path, asked.seconds))
                theirs.append(by_pgbench(dsn, statement, asked.seconds))
    report(points, len(answer.content), ours, theirs)


def keys(environment: dict[str, str]) -> str:
    """An operator's key, and the merchants that are asked about."""
    run = [sys.executable, "-m", "footfall"]
    given = {**os.environ, **environment}
    for number in range(MERCHANTS):
        subprocess.run(
            [*run, "merchants", "create", f"shop {number}"],
            env=given,
            check=True,
            capture_output=True,
        )
    made = subprocess.run(
        [*run, "keys", "create", "--admin", "--json"],
        env=given,
        check=True,
        capture_output=True,
        text=True,
    )
    return re.search(r"ff_\w+", made.stdout).group()  # type: ignore[union-attr]  # the key


def report(points: int, size: int, ours: list[Rate], theirs: list[Rate]) -> None:
    """What came of it, for a person."""
    console.print(f"{points} points, {size:,} bytes an answer; medians of {len(ours)} runs")
    table = Table("", "requests/s", "p50 ms", "p99 ms", "runs")
    for name, rates in (("API, one worker, uncached", ours), ("pgbench, the same SQL", theirs)):
        middle = [
            statistics.median(getattr(rate, figure) for rate in rates)
            for figure in ("per_second", "p50_ms", "p99_ms")
        ]
        runs = str([round(rate.per_second) for rate in rates])
        table.add_row(name, f"{middle[0]:,.0f}", f"{middle[1]:.1f}", f"{middle[2]:.1f}", runs)
    console.print(table)
    ratio = statistics.median(
        our.per_second / their.per_second for our, their in zip(ours, theirs, strict=True)
    )
    console.print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
