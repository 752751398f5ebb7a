"""From a filled topic to committed rows, in one run beside the ceiling of the same rows.

    python -m bench.ingest [--events 1000000] [--runs 3]

FOOTFALL_TEST_SHARDS names a TimescaleDB server (the first is used, in a database of its own);
the broker is the embedded one unless FOOTFALL_TEST_KAFKA names another. The ceiling is one
connection that COPYs the same rows, encoded beforehand, in batches of the same size: what is
below it is what reading, decoding, transforming and accounting cost.
"""

import argparse
import asyncio
import logging
import os
import re
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import polars as pl
import structlog
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console
from rich.table import Table

from bench import VISITOR_HASH
from db.copier import ROW_ORDER, copy_encoded, encode_rows
from db.migrate import migrate
from events.batch import Messages
from events.decode import decode
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import process
from footfall.simulate import DAY_MS, Shops
from footfall.topic import TopicWriter, ensure_topic
from ingester.consume import as_columns
from ingester.pipeline import Pipeline
from ingester.settings import IngestSettings
from tests import servers

PARTITIONS = 4
BATCH = 50_000
MERCHANTS = 5_000
console = Console()
Frames = tuple[pl.DataFrame, pl.DataFrame]


def fill(
    bootstrap: str, topic: str, events: int, end_ms: int | None = None, *, in_order: bool = False
) -> None:
    """Events of many merchants and one day, which ends now or then, into the topic; in any order,
    or in that of their times."""
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    end = end_ms or int(time.time() * 1000)
    shops = Shops(list(range(1, MERCHANTS + 1)), 1)
    writer = TopicWriter(bootstrap, topic, {})
    messages = shops.messages(events, end - DAY_MS, end)
    for key, value in sorted(messages, key=_time) if in_order else messages:
        writer.write(key, value)
    writer.flush()


def _time(message: tuple[bytes, bytes]) -> int:
    found = re.search(rb'"timestamp": (\d+)', message[1])
    return int(found[1]) if found else 0


def consume(bootstrap: str, topic: str) -> list[Messages]:
    """The whole topic, as the ingester reads it."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "queued.min.messages": 100_000,
        }
    )
    places, ends = [], 0
    for partition in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        places.append(TopicPartition(topic, partition, low))
        ends += high - low
    consumer.assign(places)
    parts: list[Messages] = []
    read = 0
    while read < ends:
        part = as_columns(consumer.consume(10_000, 1))
        read += len(part)
        parts.append(part)
    consumer.close()
    return parts


def in_batches(parts: list[Messages]) -> list[Messages]:
    """Batches of the size that the ingester makes."""
    size = BATCH // 10_000
    return [Messages.joined(parts[at : at + size]) for at in range(0, len(parts), size)]


async def ceiling(dsn: str, frames: list[Frames]) -> float:
    """Seconds to COPY ready-made bytes of the same rows and items, a transaction a batch."""
    encoded = [
        [
            (table, f.columns, f.height, encode_rows(f))
            for table, f in zip(TABLES, pair, strict=True)
        ]
        for pair in frames
    ]
    connection = await asyncpg.connect(dsn)
    began = time.perf_counter()
    for batch in encoded:
        async with connection.transaction():
            for table, columns, rows, bytes_ in batch:
                await copy_encoded(connection, table, columns, rows, bytes_)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


TABLES = ("events", "event_items")


async def pipeline(bootstrap: str, topic: str, dsn: str, messages: int) -> float:
    """Seconds from the assignment of the partitions to the last commit."""
    settings = IngestSettings(
        bootstrap=bootstrap, topic=topic, shards=(dsn,), batch_messages=BATCH, refresh_every_s=3600
    )
    running = Pipeline(settings)
    began = 0.0
    task = asyncio.create_task(running.run())
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            if not began and await connection.fetchval("SELECT count(*) FROM ingest_offset"):
                began = time.perf_counter()
            done = await connection.fetchval("SELECT sum(messages) FROM ingest_batch")
            if done and done >= messages:
                return time.perf_counter() - began
            if task.done():
                task.result()
            await asyncio.sleep(0.02)
    finally:
        await connection.close()
        running.stop()
        await task


@contextmanager
def database() -> Iterator[str]:
    """A migrated database that is thrown away."""
    with servers.shards(1) as (dsn,):
        migrate([dsn], PARTITIONS)
        yield dsn


@contextmanager
def timed(took: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds spent within to the stage's."""
    began = time.perf_counter()
    yield
    took[stage] = took.get(stage, 0.0) + time.perf_counter() - began


def stages(bootstrap: str, topic: str) -> tuple[dict[str, float], list[Frames]]:
    """Seconds of each stage by itself, one after the other, and the rows that come of them."""
    took: dict[str, float] = {}
    with timed(took, "consume"):
        parts = consume(bootstrap, topic)
    with timed(took, "join"):
        batches = in_batches(parts)
    enrichment, frames = Enrichment(VISITOR_HASH), []
    for batch in batches:
        with timed(took, "decode"):
            decode(batch, Limits())
        with timed(took, "decode and transform"):
            done = process(batch, limits=Limits(), enrichment=enrichment)
        with timed(took, "sort"):
            pair = (done.rows.sort(*ROW_ORDER), done.items.sort(*ROW_ORDER))
        with timed(took, "encode"):
            for frame in pair:
                encode_rows(frame)
        frames.append(pair)
    return took, frames


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if not os.environ.get("FOOTFALL_TEST_SHARDS"):
        console.print("FOOTFALL_TEST_SHARDS is not set: these are figures of the embedded database")
    with servers.kafka() as bootstrap:
        topic = f"bench.{uuid.uuid4().hex[:8]}"
        fill(bootstrap, topic, asked.events)
        took, frames = stages(bootstrap, topic)
        rows = sum(frame.height for frame, _ in frames)
        ceilings, pipelines = [], []
        for _ in range(asked.runs):  # interleaved: the machine's mood falls on both alike
            with database() as dsn:
                ceilings.append(asked.events / asyncio.run(ceiling(dsn, frames)))
            with database() as dsn:
                pipelines.append(
                    asked.events / asyncio.run(pipeline(bootstrap, topic, dsn, asked.events))
                )
        report(asked.events, rows, took, ceilings, pipelines)


def report(
    events: int, rows: int, took: dict[str, float], ceilings: list[float], pipelines: list[float]
) -> None:
    """What came of it, for a person."""
    table = Table("stage, alone", "ns an event")
    for name, seconds in took.items():
        table.add_row(name, f"{seconds / events * 1e9:,.0f}")
    console.print(table)
    best = statistics.median(ceilings)
    rate = statistics.median(pipelines)
    console.print(f"{events:,} messages, {rows:,} rows, medians of {len(ceilings)} runs")
    console.print(f"ceiling  {best:>10,.0f} messages/s   {[round(each) for each in ceilings]}")
    console.print(f"pipeline {rate:>10,.0f} messages/s   {[round(each) for each in pipelines]}")
    console.print(f"ratio    {rate / best:.2f}")


if __name__ == "__main__":
    main()
