"""A world of its own for tests that replace history, and all that its tables say, to compare."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from db.migrate import migrate
from db.rollups import ROLLUPS
from db.tables import shard
from footfall.topic import ensure_topic
from tests import servers, warm
from tests.conftest import PARTITIONS, World
from tests.keys import VISITOR_HASH_KEY
from tests.processes import footfall, script, wait_until

BUGGY = Path(__file__).with_name("acceptance") / "ingester_with_a_bug.py"
COMPARED = ("events", "event_items", "rejected_event", "duplicate_event", "first_order")


@contextmanager
def own_world(bootstrap: str, topic: str, shards: int = 1) -> Iterator[World]:
    """A topic and databases that nothing else uses."""
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    with servers.shards(shards) as dsns:
        migrate(dsns, PARTITIONS, visitor_hash_key=VISITOR_HASH_KEY)
        yield World(bootstrap, topic, dsns)


def ingest(world: World, messages: int, bug: str | None = None) -> None:
    """Everything in the topic, by today's logic or by one with a bug, and its rollups."""
    running = (
        footfall("ingest", environment=world.environment)
        if bug is None
        else script(BUGGY, bug, environment=world.environment, warm=False)
    )
    with running as process:
        wait_until(lambda: applied(world) >= messages, 90, "\n".join(process.lines[-5:]))
        wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")


def applied(world: World) -> int:
    """How many messages the ledgers hold."""
    return sum(
        int(one(dsn, "SELECT coalesce(sum(messages), 0)::int8 FROM ingest_batch"))
        for dsn in world.shards
    )


def refreshed(world: World) -> bool:
    """Whether every rollup has taken in all batches."""
    asked = (
        "SELECT count(*) = 0 OR coalesce(max(committed_at) < "
        "(SELECT min(refreshed_at) FROM refresh_state), false) FROM ingest_batch"
    )
    return all(one(dsn, asked) for dsn in world.shards)


def one(dsn: str, question: str, *values: Any) -> Any:
    """The one value that answers a question."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(question, values).fetchone()
    assert row is not None
    return row[0]


def everything(world: World, *, rollups: bool = True) -> dict[str, list[Any]]:
    """All rows of the tables and rollups, in an order of their own."""
    found: dict[str, list[Any]] = {}
    for dsn in world.shards:
        with psycopg.connect(dsn) as connection:
            for name in COMPARED:
                columns = [c.name for c in shard.tables[name].columns if c.name != "topic_id"]
                found.setdefault(name, []).extend(_rows(connection, name, columns))
            for rollup in ROLLUPS if rollups else ():
                found.setdefault(rollup.name, []).extend(
                    _rows(connection, rollup.name, list(rollup.columns))
                )
    return {name: sorted(rows) for name, rows in found.items()}


def _rows(connection: psycopg.Connection[Any], name: str, columns: list[str]) -> list[str]:
    rows = connection.execute(f"SELECT ROW({', '.join(columns)})::text FROM {name}").fetchall()
    return [str(row[0]) for row in rows]


def differences(found: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> list[str]:
    """What is in one and not in the other, a few lines of each."""
    wrong = []
    for name, rows in wanted.items():
        missing, extra = set(rows) - set(found[name]), set(found[name]) - set(rows)
        if missing or extra or len(rows) != len(found[name]):
            wrong.append(
                f"{name}: {len(rows)} wanted, {len(found[name])} found; {len(missing)} missing as "
                f"{sorted(missing)[:2]}; {len(extra)} too many as {sorted(extra)[:2]}"
            )
    return wrong


def days(first: int, last: int) -> list[str]:
    """--from and --to, so many days from today."""
    today = datetime.now(UTC).date()
    return [
        "--from", (today + timedelta(days=first)).isoformat(),
        "--to", (today + timedelta(days=last)).isoformat(),
    ]  # fmt: skip


def reprocess(world: World, *words: str, code: int = 0, **environment: str) -> Any:
    """`reprocess WORDS`: what it says as JSON, or else to people."""
    return command(world, "reprocess", *words, code=code, **environment)


def command(world: World, *words: str, code: int = 0, **environment: str) -> Any:
    """`footfall WORDS`: what it says as JSON, or else to people."""
    done = warm.run(words, {**os.environ, **world.environment, **environment}, 240)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in words and done.stdout else done.stderr
