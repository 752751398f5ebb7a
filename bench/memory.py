"""Peak memory of an ingester that works off a backlog, by the size of its events.

    python -m bench.memory [--megabytes 600] [--sizes 300 7500 950000]

FOOTFALL_TEST_SHARDS names a TimescaleDB server (the first is used, in databases of its own); the
broker is the embedded one unless FOOTFALL_TEST_KAFKA names another. For each size a topic is filled
with `--megabytes` of events before `footfall ingest` starts, so that it reads as fast as it can.
The peak is the kernel's (`VmHWM`), read when every message is stored. Events grow by `properties`
as far as the contract lets them, and by an unknown field beyond.
"""

import argparse
import json
import time
import uuid
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from db.migrate import migrate
from footfall.topic import TopicWriter, ensure_topic
from tests import servers
from tests.conftest import World
from tests.processes import footfall

PARTITIONS = 4
MERCHANTS = 200
PROPERTIES_BYTES = 6_000
console = Console()


def fill(bootstrap: str, topic: str, size: int, megabytes: int) -> int:
    """Page views of `size` bytes; how many."""
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    writer = TopicWriter(bootstrap, topic, {})
    now, messages = int(time.time() * 1000), megabytes * 1_000_000 // size
    for number in range(messages):
        merchant = number % MERCHANTS + 1
        event = {
            "merchant_id": merchant,
            "event": "page_view",
            "event_id": uuid.uuid4().hex,
            "visitor_id": f"v-{number % 50_000}",
            "timestamp": now - number % 600_000,
            "url": f"https://shop.example/product/{number % 5_000}",
        }
        missing = size - len(json.dumps(event)) - 20
        if missing > 0:
            held = min(missing, PROPERTIES_BYTES)
            event["properties"] = {
                f"k{at}": "p" * min(250, held - at * 260) for at in range((held + 259) // 260)
                if held - at * 260 > 0
            }  # fmt: skip
            missing = size - len(json.dumps(event)) - 16
        if missing > 0:
            event["unknown"] = "u" * missing
        writer.write(str(merchant).encode(), json.dumps(event).encode())
    writer.flush()
    return messages


def peak_mib(pid: int) -> float:
    """The most memory that a process had resident so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def stored(dsn: str, topic: str) -> tuple[int, int]:
    """Messages of the topic that are accounted for, and those of them that are rows."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(messages), 0), coalesce(sum(event_rows), 0) FROM ingest_batch "
            "JOIN ingest_offset USING (topic_id, kafka_partition) WHERE topic = %s",
            (topic,),
        ).fetchone()
    return (int(row[0]), int(row[1])) if row is not None else (0, 0)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=600, help="of backlog for each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 7_500, 950_000])
    options = parser.parse_args()
    table = Table("bytes of an event", "events", "rows", "seconds", "peak MiB")
    with servers.kafka() as bootstrap, servers.shards(1) as shards:
        migrate(shards, PARTITIONS)
        for size in options.sizes:
            topic = f"memory.{size}.{uuid.uuid4().hex[:8]}"
            messages = fill(bootstrap, topic, size, options.megabytes)
            world = World(bootstrap, topic, shards)
            began = time.monotonic()
            with footfall("ingest", environment=world.environment) as process:
                process.wait_for("ingesting")
                while (found := stored(shards[0], topic))[0] < messages:
                    time.sleep(0.5)
                seconds, peak = time.monotonic() - began, peak_mib(process.pid)
            table.add_row(
                f"{size:,}", f"{messages:,}", f"{found[1]:,}", f"{seconds:.0f}", f"{peak:,.0f}"
            )
    console.print(table)


if __name__ == "__main__":
    main()
