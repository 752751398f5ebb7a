"""The demo: the embedded stack, the real commands as processes, and shops that keep them busy."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from rich.live import Live
from rich.table import Table

from db.migrate import migrate
from footfall.compare import Line, compare
from footfall.simulate import DAY_MS, Shops
from footfall.told import output, progress
from footfall.topic import TopicWriter, ensure_topic
from stack.embedded import EmbeddedStack

HISTORY_DAYS: Final = 3
SHOPS: Final = ("Teapots", "Bicycles", "Lamps", "Seeds", "Atlases")
LIVE_PER_S: Final = 100
OVER_HTTP: Final = 200
QUERYABLE_WITHIN_S: Final = 600.0


def run_demo(events: int, *, once: bool, seed: int) -> int:
    """Run it; the exit code."""
    with ExitStack() as running:
        stack = running.enter_context(EmbeddedStack(say=progress.print))
        scratch = running.enter_context(tempfile.TemporaryDirectory(prefix="footfall-demo-"))
        demo = Demo(stack, Path(scratch), seed)
        progress.print("the log and the database answer; setting up")
        demo.set_up()
        running.enter_context(demo.process("ingest"))
        running.enter_context(demo.process("serve"))
        demo.open_shops()
        made_from = int(time.time() * 1000)
        progress.print(f"making {events:,} events of {HISTORY_DAYS} days")
        demo.send(events, made_from - HISTORY_DAYS * DAY_MS, made_from)
        if once:
            demo.wait_until_queryable()
            return show(compare(stack.shards, demo.url, demo.keys, demo.shops.tally))
        demo.live()
    return 0


class Demo:
    """What the demo started and knows."""

    def __init__(self, stack: EmbeddedStack, scratch: Path, seed: int) -> None:
        self._stack = stack
        self._topic = "footfall.events"
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {
            **os.environ,
            "FOOTFALL_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
            "FOOTFALL_SHARDS": " ".join(stack.shards),
            "FOOTFALL_TOPIC": self._topic,
            "FOOTFALL_API_PORT": str(port),
            "FOOTFALL_API_HOST": "127.0.0.1",
            "FOOTFALL_DATA_DIR": str(scratch),
        }
        self._scratch = scratch
        self._seed = seed
        self.keys: dict[int, str] = {}

    def set_up(self) -> None:
        """Topic and schema."""
        partitions = ensure_topic(self._stack.kafka_bootstrap, self._topic, 4, {})
        migrate(self._stack.shards, partitions)
        self._writer = TopicWriter(self._stack.kafka_bootstrap, self._topic, {})

    def open_shops(self) -> None:
        """Merchants and their keys, over HTTP as an operator's own system would make them."""
        admin = self._command("keys", "create", "--admin")["key"]
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {admin}"}) as http:
            for name in SHOPS:
                made = http.post("/v1/merchants", json={"name": name}).raise_for_status()
                merchant = int(made.json()["merchant_id"])
                scopes = {"scopes": ["events:write", "stats:read"]}
                key = http.post(f"/v1/merchants/{merchant}/keys", json=scopes).raise_for_status()
                self.keys[merchant] = key.json()["key"]
        self.shops = Shops(list(self.keys), self._seed)

    @contextmanager
    def process(self, command: str) -> Iterator[None]:
        """A `footfall` command beside us, ended in order at the end; its log in the scratch."""
        log = (self._scratch / f"{command}.log").open("w")
        child = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "stack.keeper", sys.executable, "-m", "footfall", command],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            assert child.stdout is not None  # noqa: S101 - Popen was asked for it
            if not child.stdout.readline():
                log.flush()
                said = Path(log.name).read_text()[-2000:]
                raise RuntimeError(f"footfall {command} ended at once:\n{said}")
            yield
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout, log):
                if pipe is not None:
                    pipe.close()

    def send(self, events: int, start_ms: int, end_ms: int) -> None:
        """Most straight into the log, the last of them over HTTP, as shops may do either."""
        direct = max(0, events - OVER_HTTP)
        for key, value in self.shops.messages(direct, start_ms, end_ms):
            self._writer.write(key, value)
        self._writer.flush()
        for key, value in list(self.shops.messages(events - direct, start_ms, end_ms)):
            self.post(int(key), value)

    def post(self, merchant: int, value: bytes) -> None:
        """One message over HTTP; a broken one is refused there and never reaches the log."""
        answer = httpx.post(
            f"{self.url}/v1/events",
            content=value,
            headers={"Authorization": f"Bearer {self.keys[merchant]}"},
            timeout=30,
        )
        if answer.status_code == 202 and answer.json()["accepted"] == 1:
            return
        if answer.status_code in (202, 400):
            self.shops.tally.broken -= 1
            self.shops.tally.messages -= 1
            return
        answer.raise_for_status()

    def wait_until_queryable(self) -> None:
        """Until the ledger holds every message and the rollups every row."""
        deadline = time.monotonic() + QUERYABLE_WITHIN_S
        wanted = self.shops.tally.messages
        with progress.status("waiting …") as status:
            while time.monotonic() < deadline:
                done, refreshed = self._progress()
                status.update(f"waiting: {done:,} of {wanted:,} messages are in the tables")
                if done >= wanted and refreshed:
                    return
                time.sleep(0.5)
        raise RuntimeError(f"not queryable within {QUERYABLE_WITHIN_S:.0f} s")

    def live(self) -> None:
        """Go on as shops do, and show it, until Ctrl-C."""
        merchant, key = next(iter(self.keys.items()))
        bearer = f"-H 'Authorization: Bearer {key}'"
        event = (
            '{"event": "page_view", "visitor_id": "me", "url": "https://shop.example/", '
            '"user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Firefox/143.0"}'
        )
        output.print(f"\nThe merchant's page: [bold]{self.url}/[/bold]", highlight=False)
        output.print(f"A key of merchant {merchant}: [bold]{key}[/bold]\n", highlight=False)
        for line in (
            f"curl -s {bearer} {self.url}/v1/events -d '{event}'",
            f"curl -s {bearer} '{self.url}/v1/merchants/{merchant}/timeseries?date_range=7d'",
            (
                f"curl -s {bearer} '{self.url}/v1/merchants/{merchant}/breakdown"
                "?dimension=source&metrics=visitors,orders,revenue'"
            ),
        ):
            output.print(line, soft_wrap=True, highlight=False, markup=False)
        try:
            with Live(console=progress, refresh_per_second=2) as screen:
                self._live(screen)
        except KeyboardInterrupt:
            progress.print("ending")

    def _live(self, screen: Live) -> None:
        began, before = time.monotonic(), self._progress()[0]
        while True:
            now = int(time.time() * 1000)
            for key, value in self.shops.messages(LIVE_PER_S, now - 2000, now):
                self._writer.write(key, value)
            self._writer.flush()
            done, _ = self._progress()
            seconds = time.monotonic() - began
            rate, began = (done - before) / max(seconds, 0.001), time.monotonic()
            before = done
            screen.update(self._panel(rate, self.shops.tally.messages - done))
            time.sleep(1)

    def _panel(self, rate: float, lag: int) -> Table:
        table = Table("events/s", "lag", "fresh as of")
        table.add_row(f"{rate:,.0f}", f"{max(lag, 0):,}", self._fresh())
        return table

    def _fresh(self) -> str:
        merchant, key = next(iter(self.keys.items()))
        answer = httpx.get(
            f"{self.url}/v1/merchants/{merchant}/summary?date_range=today&metrics=events",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )
        return str(answer.json().get("meta", {}).get("fresh_as_of"))

    def _progress(self) -> tuple[int, bool]:
        """Messages in the tables, and whether the rollups have taken in all of them."""
        done, refreshed = 0, True
        for dsn in self._stack.shards:
            with psycopg.connect(dsn) as connection:
                row = connection.execute(
                    "SELECT coalesce(sum(messages), 0)::int8, coalesce(max(committed_at) < "
                    "(SELECT min(refreshed_at) FROM refresh_state), false) FROM ingest_batch"
                ).fetchone()
            if row is not None:
                done += int(row[0])
                refreshed = refreshed and bool(row[1])
        return done, refreshed

    def _command(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "footfall", *words, "--json"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"footfall {' '.join(words)}: {done.stderr}")
        answer = httpx.Response(200, content=done.stdout).json()
        return dict(answer)


def show(lines: list[Line]) -> int:
    """Print the comparison; 0 where everything agrees."""
    table = Table("merchant", "metric", "made", "raw rows", "rollup", "API", "")
    for line in lines:
        same = "within 6 %" if line.approximate else "equal"
        mark = f"[green]{same}[/green]" if line.agrees else "[red]DIFFERS[/red]"
        values = (line.made, line.raw, line.rollup, line.api)
        table.add_row(
            line.merchant, line.metric, *("" if v is None else str(v) for v in values), mark
        )
    output.print(table)
    differing = sum(not line.agrees for line in lines)
    output.print(f"{len(lines)} compared, {differing} differ", highlight=False)
    return 1 if differing else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
