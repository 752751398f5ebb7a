"""How fast history is replaced, beside the live pipeline in the same run, and what live loses.

    python -m bench.reprocess [--events 2000000] [--live-per-s 5000]

FOOTFALL_TEST_SHARDS names a TimescaleDB server; the broker is the embedded one unless
FOOTFALL_TEST_KAFKA names another. A day of events is ingested by the live pipeline; then every row
is spoiled and the day replaced from the log, then one row in thirty is and it is replaced again.
Last, events arrive at a steady rate while nothing else happens and while the day is replaced:
the share of them that are stored as they come, and how far live falls behind.
"""

import argparse
import asyncio
import logging
import math
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import psycopg
import structlog
from rich.console import Console
from rich.table import Table

from bench.ingest import BATCH, MERCHANTS, database, fill, pipeline
from db.pools import REPLAY_SETTINGS, open_pools, shard_map
from db.refresh import refresh_late
from db.retry import patiently
from db.runs import Done, Slice
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import LOGIC_VERSION
from footfall.loop import run
from footfall.simulate import DAY_MS, Shops
from footfall.topic import TopicWriter
from reprocess.log_source import LogSource
from reprocess.pace import Pace
from reprocess.plan import Asked, plan
from reprocess.recount import Logic
from reprocess.run import begin, carry_out, new_run
from reprocess.settings import ReprocessSettings
from reprocess.work import Work
from tests import servers
from tests.conftest import World
from tests.processes import Process, footfall

console = Console()


@dataclass(slots=True)
class Watch:
    """When the last row was replaced, and how many."""

    replaced_at: float = 0.0
    changed: int = 0
    messages: int = 0
    slices: list[Slice] = field(default_factory=list)

    def read(self, messages: int) -> None:
        """Counted with the slice."""

    def replaced(self, part: Slice, done: Done) -> None:
        """A slice's rows are the new ones."""
        self.replaced_at = time.perf_counter()
        self.changed += done.changes.changed
        self.messages += done.messages

    def refreshed(self, part: Slice) -> None:
        """Its rollups have followed."""
        self.slices.append(part)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a run of the whole window took."""

    messages: int
    changed: int
    rows_s: float  # until the last row was replaced
    all_s: float  # until the last rollup had followed


async def replace_all(
    bootstrap: str, topic: str, dsn: str, *, beside_live: bool = False
) -> Replaced:
    """The whole topic replaced. Where no ingester runs, none is waited for to catch up."""
    max_lag_s = 30.0 if beside_live else math.inf
    settings = ReprocessSettings(bootstrap, topic, (dsn,), max_lag_s=max_lag_s)
    pools = await open_pools((dsn,), REPLAY_SETTINGS, size=6)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    asked = Asked(today - timedelta(days=1), today)
    planned = await plan(settings, pools, await shard_map(pools[0]), asked)
    run = new_run(planned, settings, LOGIC_VERSION)
    await begin(pools, run, planned)
    logic = Logic(Limits(), Enrichment(), timedelta(minutes=15))
    watch = Watch()
    began = time.perf_counter()
    await carry_out(
        pools,
        settings,
        Work(run, logic, Pace()),
        lambda: LogSource(bootstrap, topic, {}),
        watch,
    )
    ended = time.perf_counter()
    for pool in pools:
        pool.terminate()
    return Replaced(watch.messages, watch.changed, watch.replaced_at - began, ended - began)


def spoil(dsn: str, where: str) -> None:
    """Rows that are not what the log says."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"UPDATE events SET utm_term = 'spoilt' WHERE {where}")
        connection.execute("VACUUM ANALYZE events")


async def take_in(dsn: str) -> None:
    """The rollups of what was ingested."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=1)
    await patiently(partial(refresh_late, pool))  # a policy may be at it
    await pool.close()


@contextmanager
def ingester(world: World) -> Iterator[Process]:
    """`footfall ingest` beside us."""
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("assigned", 60)
        yield process


async def steady(
    world: World, per_s: int, seconds: float, values: list[tuple[bytes, bytes]]
) -> tuple[float, float]:
    """Events at a steady rate: the share stored by the end, and the largest lag in seconds."""
    writer = TopicWriter(world.bootstrap, world.topic, {})
    connection = await asyncpg.connect(world.shards[0])
    asked = "SELECT coalesce(sum(messages), 0)::int8 FROM ingest_batch"
    before: int = await connection.fetchval(asked)
    began, sent, lag = time.perf_counter(), 0, 0.0
    while (passed := time.perf_counter() - began) < seconds:
        upto = min(int(passed * per_s), len(values))
        for key, value in values[sent:upto]:
            writer.write(key, value)
        sent = upto
        stored = await connection.fetchval(asked) - before
        lag = max(lag, (sent - stored) / per_s)
        await asyncio.sleep(0.05)
    writer.flush()
    stored = await connection.fetchval(asked) - before
    await connection.close()
    return stored / sent, lag


def live_values(count: int) -> list[tuple[bytes, bytes]]:
    """Events of now."""
    now = int(time.time() * 1000)
    return list(Shops(list(range(1, MERCHANTS + 1)), 99).messages(count, now - 60_000, now))


async def beside_live(world: World, per_s: int, seconds: float) -> list[tuple[str, float, float]]:
    """Live alone, and live while the day is replaced again and again."""
    found = []
    values = live_values(int(per_s * seconds * 2.2))
    half = len(values) // 2
    found.append(("live alone", *await steady(world, per_s, seconds, values[:half])))
    replacing = asyncio.create_task(_over_and_over(world))
    found.append(("live beside it", *await steady(world, per_s, seconds, values[half:])))
    replacing.cancel()
    await asyncio.gather(replacing, return_exceptions=True)
    return found


async def _over_and_over(world: World) -> None:
    while True:
        done = await replace_all(world.bootstrap, world.topic, world.shards[0], beside_live=True)
        console.print(f"  replaced meanwhile: {done.messages:,} messages in {done.all_s:.1f} s")


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--live-per-s", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=30)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        console.print("FOOTFALL_TEST_SHARDS is not set: these are figures of the embedded database")
    with servers.kafka() as bootstrap, database() as dsn:
        topic = f"bench.{uuid.uuid4().hex[:8]}"
        # one UTC day that is over
        midnight = int(time.time() * 1000) // DAY_MS * DAY_MS
        fill(bootstrap, topic, asked.events, midnight, in_order=True)
        live = asked.events / run(pipeline(bootstrap, topic, dsn, asked.events))
        run(take_in(dsn))
        table = Table("", "messages/s", "of live", "rows changed", "with rollups, s")
        table.add_row(f"live, batches of {BATCH:,}", f"{live:,.0f}", "", "", "")
        for name, where in (
            ("every row differs", "true"),
            ("one in thirty differs", "log_offset % 30 = 0"),
            ("none differs", "false"),
        ):
            spoil(dsn, where)
            done = run(replace_all(bootstrap, topic, dsn))
            rate = done.messages / done.rows_s
            table.add_row(
                f"replaced, {name}", f"{rate:,.0f}", f"{rate / live:.2f}", f"{done.changed:,}",
                f"{done.all_s:.1f}",
            )  # fmt: skip
        console.print(table)
        world = World(bootstrap, topic, [dsn])
        with ingester(world):
            found = run(beside_live(world, asked.live_per_s, asked.seconds))
        table = Table("", "stored as they came", "largest lag, s")
        for name, share, lag in found:
            table.add_row(name, f"{share:.1%}", f"{lag:.1f}")
        console.print(table)
        console.print(f"live loses {1 - found[1][1] / found[0][1]:.1%} of its rate")


if __name__ == "__main__":
    main()
