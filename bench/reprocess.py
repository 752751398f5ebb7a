"""How fast history is replaced, beside the live pipeline in the same run, and what live loses.

    python -m bench.reprocess [--events 1000000] [--runs 3] [--live-per-s 5000]

FOOTFALL_TEST_SHARDS names a TimescaleDB server; the broker is the embedded one unless
FOOTFALL_TEST_KAFKA names another. A day of events is ingested by the live pipeline and then
replaced from the log by another logic: one by which every row differs, one row in thirty, or none;
each time in a new database, the kinds in turn. Last, events arrive at a steady rate while nothing
else happens and while the day is replaced: the share of them that are stored as they come, and how
far live falls behind.
"""

import argparse
import asyncio
import itertools
import logging
import math
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median

import asyncpg
import polars as pl
import structlog
from rich.console import Console
from rich.table import Table

from bench import VISITOR_HASH
from bench.ingest import MERCHANTS, database, fill, pipeline
from db.pools import REPLAY_SETTINGS, open_pools
from db.refresh import refresh_late
from db.retry import patiently
from db.runs import Done, Slice
from db.shard_map import shard_map
from events.batch import Messages, Processed
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import LOGIC_VERSION, Only
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


@dataclass(frozen=True, slots=True)
class Changed(Logic):
    """Today's logic, but for a column of one row in so many."""

    one_in: int

    def __call__(self, messages: Messages, only: Only | None = None) -> Processed:
        """Rows, items and rejects, some of them other than live ingest made them."""
        made = Logic.__call__(self, messages, only)  # slots make a class that super() cannot know
        these = pl.col("log_offset") % self.one_in == 0
        term = pl.when(these).then(pl.lit("changed")).otherwise(pl.col("utm_term"))
        return replace(made, rows=made.rows.with_columns(term.alias("utm_term")))


LOGIC = (Limits(), Enrichment(VISITOR_HASH), timedelta(minutes=15))
KINDS: dict[str, Logic] = {
    "every row differs": Changed(*LOGIC, one_in=1),
    "one in thirty differs": Changed(*LOGIC, one_in=30),
    "none differs": Logic(*LOGIC),
}


async def replace_all(
    bootstrap: str, topic: str, dsn: str, logic: Logic, *, beside_live: bool = False
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


async def take_in(dsn: str) -> None:
    """The rollups of what was ingested, and what the server does by itself before long."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=1)
    await patiently(partial(refresh_late, pool, math.inf))  # a policy may be at it
    await pool.execute("VACUUM ANALYZE events")
    await pool.execute("VACUUM ANALYZE event_items")
    await pool.close()


@dataclass(frozen=True, slots=True)
class Pair:
    """Messages a second, live and replaced, of one database; and how the replay came out."""

    live: float
    replayed: float
    done: Replaced


def measure(bootstrap: str, topic: str, dsn: str, logic: Logic, events: int) -> Pair:
    """Ingest the topic, then replace it."""
    live = events / run(pipeline(bootstrap, topic, dsn, events))
    run(take_in(dsn))
    done = run(replace_all(bootstrap, topic, dsn, logic))
    return Pair(live, done.messages / done.rows_s, done)


def report(pairs: dict[str, list[Pair]]) -> Table:
    """Medians of the runs, and each run's ratio."""
    table = Table("", "live, messages/s", "replaced", "of live", "rows changed", "with rollups, s")
    for name, found in pairs.items():
        ratios = [pair.replayed / pair.live for pair in found]
        table.add_row(
            name,
            f"{median(pair.live for pair in found):,.0f}",
            f"{median(pair.replayed for pair in found):,.0f}",
            f"{median(ratios):.2f}  {' '.join(f'{ratio:.2f}' for ratio in ratios)}",
            f"{found[0].done.changed:,}",
            f"{median(pair.done.all_s for pair in found):.1f}",
        )
    return table


@contextmanager
def ingester(world: World) -> Iterator[Process]:
    """`footfall ingest` beside us."""
    with footfall("ingest", environment=world.environment) as process:
        process.wait_for("assigned", 60)
        yield process


@dataclass(slots=True)
class Stream:
    """Events at a steady rate into the topic, and what of them is stored."""

    writer: TopicWriter
    connection: asyncpg.Connection
    per_s: int
    before: int = 0
    sent: int = 0

    @classmethod
    async def open(cls, world: World, per_s: int) -> "Stream":
        """Connect, and count what is stored already."""
        writer = TopicWriter(world.bootstrap, world.topic, {})
        stream = cls(writer, await asyncpg.connect(world.shards[0]), per_s)
        stream.before = await stream.stored()
        return stream

    async def stored(self) -> int:
        """How many of the stream's messages are committed."""
        asked = "SELECT coalesce(sum(messages), 0)::int8 FROM ingest_batch"
        found: int = await self.connection.fetchval(asked)
        return found - self.before

    async def catch_up(self) -> None:
        """Wait until all that was sent is stored."""
        self.writer.flush()
        for _ in range(1_200):
            if await self.stored() >= self.sent:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"{self.sent - await self.stored()} messages are still to be stored")

    async def run(self, values: list[tuple[bytes, bytes]]) -> tuple[float, float]:
        """Send them: the share stored by the end, and the largest lag in seconds."""
        await self.catch_up()
        began, sent, lag, stood = time.perf_counter(), 0, 0.0, self.sent
        while sent < len(values):
            upto = min(int((time.perf_counter() - began) * self.per_s), len(values))
            for key, value in values[sent:upto]:
                self.writer.write(key, value)
            sent = upto
            self.sent = stood + sent
            lag = max(lag, (self.sent - await self.stored()) / self.per_s)
            await asyncio.sleep(0.05)
        self.writer.flush()
        return (await self.stored() - stood) / sent, lag


def live_values(count: int) -> list[tuple[bytes, bytes]]:
    """Events of the last twenty minutes: visits are long, and what would lie ahead is of now."""
    now = int(time.time() * 1000)
    return list(Shops(list(range(1, MERCHANTS + 1)), 99).messages(count, now - 1_200_000, now))


async def beside_live(world: World, per_s: int, seconds: float) -> list[tuple[str, float, float]]:
    """Live alone, and live while the day is replaced again and again."""
    stream = await Stream.open(world, per_s)
    count = int(per_s * seconds)
    values = live_values(2 * count + per_s)
    await stream.run(values[2 * count :])  # it looks at what was logged of late before the first
    found = [("live alone", *await stream.run(values[:count]))]
    replacing = asyncio.create_task(_over_and_over(world))
    found.append(("live beside it", *await stream.run(values[count : 2 * count])))
    replacing.cancel()
    await asyncio.gather(replacing, return_exceptions=True)
    await stream.connection.close()
    return found


async def _over_and_over(world: World) -> None:
    """By a logic that changes every row, and by today's again, which changes every row back."""
    for logic in itertools.cycle((KINDS["every row differs"], KINDS["none differs"])):
        done = await replace_all(
            world.bootstrap, world.topic, world.shards[0], logic, beside_live=True
        )
        console.print(f"  replaced meanwhile: {done.messages:,} messages in {done.all_s:.1f} s")


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--live-per-s", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=30)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        console.print("FOOTFALL_TEST_SHARDS is not set: these are figures of the embedded database")
    with servers.kafka() as bootstrap:
        topic = f"bench.{uuid.uuid4().hex[:8]}"
        # one UTC day that is over
        midnight = int(time.time() * 1000) // DAY_MS * DAY_MS
        fill(bootstrap, topic, asked.events, midnight, in_order=True)
        pairs: dict[str, list[Pair]] = {name: [] for name in KINDS}
        for _ in range(asked.runs):  # in turn: the machine's mood falls on all alike
            for name, logic in KINDS.items():
                with database() as dsn:
                    pairs[name].append(measure(bootstrap, topic, dsn, logic, asked.events))
        console.print(f"{asked.events:,} messages, medians of {asked.runs} runs, each run's ratio")
        console.print(report(pairs))
        if asked.seconds:
            with database() as dsn:
                run(pipeline(bootstrap, topic, dsn, asked.events))
                run(take_in(dsn))
                show_live(World(bootstrap, topic, [dsn]), asked.live_per_s, asked.seconds)


def show_live(world: World, per_s: int, seconds: float) -> None:
    """What live loses while history is replaced."""
    with ingester(world):
        found = run(beside_live(world, per_s, seconds))
    table = Table("", "stored as they came", "largest lag, s")
    for name, share, lag in found:
        table.add_row(name, f"{share:.1%}", f"{lag:.1f}")
    console.print(table)
    console.print(f"live loses {1 - found[1][1] / found[0][1]:.1%} of its rate")


if __name__ == "__main__":
    main()
