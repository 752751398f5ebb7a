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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import structlog
from rich.console import Console
from rich.table import Table

from api.query.language import QueryBody, understand
from api.query.plan import plan
from api.query.sql import Statement
from api.query.trip import in_one_trip
from bench import read_load
from bench.shops import TOPIC, alike, database, fill, served
from db.pools import READER_SETTINGS

MERCHANTS = 50
DAYS = 8
CONNECTIONS = 32
PLANNED = READER_SETTINGS["plan_cache_mode"]  # as often as by the API
console = Console()


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
            env={**os.environ, "PGOPTIONS": f"-c plan_cache_mode={PLANNED}"},
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
    parser.add_argument("--load", action="store_true", help="the read load instead, cached")
    parser.add_argument("--rate", type=int, default=1200, help="questions a second of the load")
    parser.add_argument("--live", type=int, default=200, help="events a second during the load")
    parser.add_argument("--merchants", type=int, default=1000, help="of the load")
    parser.add_argument("--workers", type=int, default=2, help="of the load")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    if asked.load:
        read_load.run(asked)
        return
    for tool in ("wrk", "pgbench"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not on the PATH: install it (Debian: wrk, postgresql-contrib)")
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        sys.exit("FOOTFALL_TEST_SHARDS is not set: pgbench needs a server of several sessions")
    statement = statement_of(asked.metrics.split(","))
    path = f"/timeseries?interval=hour&date_range=7d&timezone=UTC&metrics={asked.metrics}"
    with database() as dsn:
        asyncio.run(fill(dsn, alike(MERCHANTS, asked.events, DAYS)))
        with served(dsn, MERCHANTS, 1, FOOTFALL_CACHE_MS="0") as api:
            answer = httpx.get(
                f"{api.url}/v1/merchants/1{path}", headers={"Authorization": f"Bearer {api.key}"}
            )
            answer.raise_for_status()
            points = len(answer.json()["rows"])
            ours, theirs = [], []
            for _ in range(asked.runs):  # interleaved: the machine's mood falls on both alike
                ours.append(over_http(api.url, api.key, path, asked.seconds))
                theirs.append(by_pgbench(dsn, statement, asked.seconds))
    report(points, len(answer.content), ours, theirs)


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
