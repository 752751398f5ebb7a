"""The read load: questions at a fixed rate, mixed as merchants ask, while events go on arriving.

An open loop: each question is due at an instant, whatever became of those before, and its latency
counts from then. Shops are asked about as they are large, by Zipf's law. 70 % of the questions are
of dashboards (totals compared with the period before, or a daily series, of 7 or 28 days), 20 % are
breakdowns, 10 % others: now, an hourly series, a filter that only raw rows answer, a funnel.
"""

import argparse
import asyncio
import math
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np
import structlog
from rich.console import Console
from rich.table import Table

from bench.cpu import of_tree, server_of
from bench.shops import (
    TOPIC_ID,
    Served,
    by_size,
    database,
    fill,
    load,
    messages,
    served,
)
from db.ledger import note_applied
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import refresh_late
from db.retry import patiently
from ingester.load import Loader

CONNECTIONS = 128
DAYS = 57
DASHBOARD = "metrics=visitors,sessions,page_views,orders,revenue,conversion_rate"
SERIES = "metrics=visitors,page_views,orders,revenue"
FUNNEL = msgspec.json.encode(
    {"steps": [{"event": "page_view"}, {"event": "add_to_cart"}, {"event": "purchase"}],
     "date_range": "7d"}
)  # fmt: skip
_FRESH = b"footfall-fresh-as-of: "
AGES_OF = 20  # of each so many answers, one's age is taken
Question = tuple[str, str, bytes]  # kind, path behind the merchant, body
console = Console()


def questions() -> list[tuple[float, Question]]:
    """Each question and its share."""
    top = "order_by=-page_views&limit=10"
    breakdowns = [
        (0.04, f"dimension=page&metrics=page_views&{top}"),
        (0.02, "dimension=product&metrics=units,revenue&order_by=-revenue&limit=10"),
        (0.02, "dimension=channel&metrics=sessions,conversion_rate"),
        (0.01, "dimension=country&metrics=events,orders"),
        (0.01, "dimension=device&metrics=events,orders"),
    ]
    found: list[tuple[float, Question]] = []
    for days in ("7d", "28d"):
        of_days = f"date_range={days}"
        totals = f"/summary?{DASHBOARD}&compare=previous_period&{of_days}"
        found += [
            (0.175, ("dashboard", totals, b"")),
            (0.175, ("dashboard", f"/timeseries?{SERIES}&{of_days}", b"")),
        ]
        found += [
            (share, ("breakdown", f"/breakdown?{asked}&{of_days}", b""))
            for share, asked in breakdowns
        ]
    germans = quote('[["is","country",["DE"]]]')
    raw = f"/breakdown?dimension=page&metrics=visitors&filters={germans}&date_range=7d"
    return [
        *found,
        (0.04, ("realtime", "/realtime", b"")),
        (0.03, ("hourly series", f"/timeseries?interval=hour&{SERIES}&date_range=7d", b"")),
        (0.02, ("raw rows", raw, b"")),
        (0.01, ("funnel", "/funnel", FUNNEL)),
    ]


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request at a time."""

    def __init__(self, freed: Callable[["Connection"], None]) -> None:
        self._freed = freed
        self._parts = bytearray()
        self._done: Callable[[int, bytes], None] = lambda *_: None
        self._fresh = b""
        self._wanted: int | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready for its first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._freed(self)

    def ask(self, request: bytes, done: Callable[[int, bytes], None]) -> None:
        """Send; `done` is called with the answer's status and how fresh it says that it is."""
        assert self.transport is not None
        self._done = done
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Until the answer is whole."""
        self._parts += data
        if self._wanted is None:
            end = self._parts.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._parts[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._wanted = end + 4 + length
            at = head.find(_FRESH)
            self._fresh = head[at + len(_FRESH) :].split(b"\r\n", 1)[0] if at >= 0 else b""
        if len(self._parts) >= self._wanted:
            status = int(self._parts[9:12])
            self._parts.clear()
            self._wanted = None
            self._done(status, self._fresh)
            self._freed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The run cannot go on."""
        if self._parts or exc is not None:
            raise SystemExit(f"a connection was lost: {exc}")


@dataclass(slots=True)
class Load:
    """A run: what is due, what is idle, what came of it."""

    requests: list[tuple[str, bytes]]  # kind, request
    rate: int
    took: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    ages: list[float] = field(default_factory=list)  # seconds, of a part of the answers
    _answered: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: deque[Connection] = field(default_factory=deque)
    _due: deque[tuple[float, str, bytes]] = field(default_factory=deque)

    async def run(self, host: str, port: int) -> float:
        """Ask everything at its time; the seconds that it took."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: Connection(self._freed), host, port)
        began = loop.time()
        for number, (kind, request) in enumerate(self.requests):
            due = began + number / self.rate
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            elif number % 50 == 0:
                await asyncio.sleep(0)
            self._due.append((due, kind, request))
            self._send()
        await self._answered.wait()
        return loop.time() - began

    def _freed(self, connection: Connection) -> None:
        self._idle.append(connection)
        self._send()

    def _send(self) -> None:
        while self._due and self._idle:
            due, kind, request = self._due.popleft()
            connection = self._idle.popleft()

            def done(status: int, fresh: bytes, due: float = due, kind: str = kind) -> None:
                if fresh and self.statuses.total() % AGES_OF == 0:
                    as_of = datetime.fromisoformat(fresh.decode().upper())
                    self.ages.append((datetime.now(UTC) - as_of).total_seconds())
                self.took.setdefault(kind, []).append((time.monotonic() - due) * 1000)
                self.statuses[status] += 1
                if self.statuses.total() == len(self.requests):
                    self._answered.set()

            connection.ask(request, done)


def requests(api: Served, merchants: int, count: int, seed: int) -> list[tuple[str, bytes]]:
    """So many requests of the mix, ready to send."""
    dice = np.random.default_rng(seed)
    shares, asked = zip(*questions(), strict=True)
    weights = 1 / np.arange(1, merchants + 1)
    chosen = dice.choice(len(asked), count, p=np.array(shares) / sum(shares))
    shops = dice.choice(merchants, count, p=weights / weights.sum()) + 1
    host = urlsplit(api.url).netloc
    found = []
    for number, shop in zip(chosen, shops, strict=True):
        kind, path, body = asked[number]
        method = "POST" if body else "GET"
        head = (
            f"{method} /v1/merchants/{shop}{path} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {api.key}\r\nAccept: application/json\r\n"
        )
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        found.append((kind, head.encode() + b"\r\n" + body))
    return found


@dataclass(frozen=True, slots=True)
class Arriving:
    """Events that arrive: how many a second, and between which moments."""

    merchants: int
    first_offset: int
    rate: int
    begun: Any  # events of multiprocessing
    stop: Any


def arrive(dsn: str, arriving: Arriving) -> None:
    """New events in a batch a second, and what comes late refreshed, as an ingester does."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    asyncio.run(_arrive(dsn, arriving))


async def _arrive(dsn: str, arriving: Arriving) -> None:
    pool = await open_pool(dsn, WRITER_SETTINGS, size=3)
    loader = Loader(pool, TOPIC_ID, timedelta(minutes=15))
    passes, offset, rate = 0, arriving.first_offset, arriving.rate
    while not arriving.stop.is_set():
        began = time.monotonic()
        now = datetime.now(UTC)
        if rate:
            values = by_size(arriving.merchants, rate, 30 / 86_400, passes + 2)[:rate]
            await load(pool, loader, messages(values, offset), now)
            offset += len(values)
        await note_applied(pool, TOPIC_ID, now, {0: offset})
        arriving.begun.set()
        passes += 1
        if passes % 5 == 0:
            await patiently(partial(refresh_late, pool, math.inf))  # a policy may be at it
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))
    await pool.close()


def run(asked: argparse.Namespace) -> None:
    """Fill, serve, warm up for ten seconds, ask, and print what came of it."""
    values = by_size(asked.merchants, asked.events, DAYS)
    with database() as dsn:
        asyncio.run(fill(dsn, values))
        server = server_of(dsn)
        with served(dsn, asked.merchants, asked.workers) as api:
            context = multiprocessing.get_context("spawn")
            begun, stop = context.Event(), context.Event()
            events = Arriving(asked.merchants, len(values), asked.live, begun, stop)
            arriving = context.Process(target=arrive, args=(dsn, events))
            arriving.start()
            if not begun.wait(60):
                raise SystemExit("no event arrived within a minute")
            where = urlsplit(api.url)

            def cpu() -> dict[str, float]:
                parts = {"generator": time.process_time(), "API": of_tree(api.pid)}
                parts["arriving events' sender"] = of_tree(arriving.pid or 0)
                return parts | ({"database": of_tree(server)} if server else {})

            for seconds, seed in ((10, 1), (asked.seconds, 2)):
                ready = requests(api, asked.merchants, asked.rate * seconds, seed)
                load_run = Load(ready, asked.rate)
                before = cpu()
                took = asyncio.run(load_run.run(str(where.hostname), int(where.port or 80)))
                used = {part: seconds - before[part] for part, seconds in cpu().items()}
            stop.set()
            arriving.join(30)
    report(load_run, took, used, asked)


def report(done: Load, seconds: float, used: dict[str, float], asked: argparse.Namespace) -> None:
    """What came of it, for a person."""
    console.print(
        f"{len(done.requests):,} questions of {asked.merchants:,} merchants in {seconds:.1f} s: "
        f"{len(done.requests) / seconds:,.0f}/s wanted {asked.rate:,}/s; {asked.live} events/s "
        f"arrive meanwhile; {asked.workers} workers; statuses {dict(done.statuses)}"
    )
    table = Table("", "questions", "p50 ms", "p90 ms", "p99 ms", "longest ms")
    everything = [ms for times in done.took.values() for ms in times]
    for kind, times in [("all", everything), *sorted(done.took.items())]:
        figures = np.percentile(times, [50, 90, 99, 100])
        table.add_row(kind, f"{len(times):,}", *(f"{figure:.1f}" for figure in figures))
    console.print(table)
    ages = np.percentile(done.ages, [50, 99, 100])
    console.print(
        "an answer is as of {:.1f} s ago at p50, {:.1f} s at p99, {:.1f} s at most".format(*ages)
    )
    parts = ", ".join(f"{part} {s / len(done.requests) * 1000:.2f}" for part, s in used.items())
    console.print(f"CPU ms a question: {parts}")
