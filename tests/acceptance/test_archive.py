"""What the log no longer holds is made again from files: archives of it, or services' own logs."""

import gzip
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from backports import zstd
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from db.rollups import ROLLUPS
from footfall.simulate import DAY_MS, Shops
from footfall.topic import ensure_topic
from tests.conftest import PARTITIONS, World
from tests.history import command, days, differences, everything, ingest, own_world, reprocess
from tests.processes import wait_until

EVENTS = 4_000
ROLLUP_NAMES = {rollup.name for rollup in ROLLUPS}


@dataclass(frozen=True, slots=True)
class Past:
    """A world, what was written to its topic, and what that becomes by today's logic."""

    world: World
    messages: list[tuple[bytes, bytes]]
    wanted: dict[str, list[Any]]

    @property
    def topic(self) -> str:
        """For other worlds of it."""
        return self.world.topic

    @property
    def numbers(self) -> dict[str, list[Any]]:
        """The rollups alone: what is the same from whatever source."""
        return {name: rows for name, rows in self.wanted.items() if name in ROLLUP_NAMES}


@pytest.fixture(scope="module")
def past(bootstrap: str) -> Iterator[Past]:
    """Events of three days, ingested without a fault."""
    topic = f"archive.{uuid.uuid4().hex[:8]}"
    with own_world(bootstrap, topic) as world:
        merchants = world.merchants(5)
        now = int(time.time() * 1000)
        messages = list(Shops(merchants, 11).messages(EVENTS, now - 3 * DAY_MS, now))
        sent = world.write(iter(messages))
        ingest(world, sent)
        yield Past(world, messages, everything(world))


def run(world: World, *sources: Path, words: tuple[str, ...] = (), code: int = 0) -> Any:
    """`reprocess run --source SOURCES`."""
    given = ["--source", *map(str, sources)] if sources else []
    return reprocess(world, "run", *days(-5, 2), "--yes", "--json", *words, *given, code=code)


def spoil(world: World) -> None:
    """Rows and rejects that no log would give."""
    for dsn in world.shards:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE events SET page = '/x', channel = 'x' WHERE page = '/'")


@pytest.mark.timeout(600)
def test_an_archive_gives_what_the_log_gave_when_that_is_gone(
    bootstrap: str, past: Past, tmp_path: Path
) -> None:
    topic = f"archive.{uuid.uuid4().hex[:8]}"
    parquet, lines = tmp_path / "parquet", tmp_path / "lines"
    with own_world(bootstrap, topic) as world:
        world.merchants(5)
        sent = world.write(iter(past.messages))
        ingest(world, sent)
        wanted = everything(world)
        for folder, kind in ((parquet, "parquet"), (lines, "jsonl")):
            words = ("archive", "--out", str(folder), "--json")
            written = command(world, *words, *days(-5, 2), "--format", kind)
            assert sum(each["messages"] for each in written["files"]) == sent
            assert command(world, *words, "--verify")["agrees"]
        spoil(world)
        _delete_records(world)
        assert "have left the log" in run(world, code=1)
        first = run(world, parquet)
        assert first["rows_changed"] > 0
        assert differences(everything(world), wanted) == []
        assert run(world, parquet)["rows_changed"] == 0
        spoil(world)
        assert run(world, *sorted(lines.glob("*.zst")))["rows_changed"] > 0
        assert differences(everything(world), wanted) == []
        verdict = command(world, "archive", "--out", str(parquet), "--verify", "--json")
        assert verdict["agrees"]
        assert sum(each["compared"] for each in verdict["files"]) == 0
        _make_topic_again(world)
        spoil(world)
        assert run(world, parquet)["rows_changed"] > 0
        assert differences(everything(world), wanted) == []
        (whole,) = list(parquet.glob("*-00000-*"))[:1]
        others = [each for each in parquet.glob("*.parquet") if each != whole]
        assert "the files hold none" in run(world, *others, code=1)
        broken = bytearray(whole.read_bytes())
        broken[len(broken) // 2] ^= 1
        whole.write_bytes(broken)
        verdict = command(world, "archive", "--out", str(parquet), "--verify", "--json", code=1)
        assert [each["name"] for each in verdict["files"] if each["wrong"]] == [whole.name]


def test_an_archive_that_lacks_offsets_is_refused(past: Past, tmp_path: Path) -> None:
    words = ("archive", "--out", str(tmp_path), "--partition", "0", "--offsets", "0:10")
    command(past.world, *words, "--json")
    said = run(past.world, tmp_path, words=("--partition", "0"), code=1)
    assert "hold" in said
    assert "refused" in said
    assert differences(everything(past.world), past.wanted) == []


@pytest.mark.timeout(600)
def test_a_services_log_gives_the_same_numbers_and_the_log_its_own_again(
    bootstrap: str, past: Past, tmp_path: Path
) -> None:
    files = _service_logs(past.messages, tmp_path)
    with own_world(bootstrap, past.topic) as world:
        world.merchants(5)
        ingest(world, len(past.messages), "bots")
        assert differences(everything(world), past.numbers) != []
        said = run(world, *files[:1], code=1)
        assert "refused" in said
        assert "the same as" in run(world, *files, files[0], code=1)
        plan = reprocess(world, "plan", *days(-5, 2), "--json", "--source", *map(str, files))
        assert sum(each["in_window"] for each in plan["files"]) == len(past.messages)
        run(world, *files, words=("--max-change", "20%"), code=1)
        assert differences(everything(world), past.numbers) != []
        first = reprocess(world, "resume", "--max-change", "inf%", "--json")
        assert first["rows_changed"] > 0
        assert differences(everything(world), past.numbers) == []
        assert run(world, *files)["rows_changed"] == 0
        assert differences(everything(world), past.numbers) == []
        # the log has the last word where it still holds the window
        assert run(world)["rows_changed"] > 0
        assert differences(everything(world), past.wanted) == []
        assert run(world)["rows_changed"] == 0


def test_one_merchants_own_log_leaves_the_others_alone(
    bootstrap: str, past: Past, tmp_path: Path
) -> None:
    own = tmp_path / "shop.jsonl"
    own.write_bytes(b"\n".join(value for key, value in past.messages if key == b"2") + b"\n")
    with own_world(bootstrap, past.topic) as world:
        world.merchants(5)
        ingest(world, len(past.messages), "channel")
        before = _events(world, "merchant_id <> 2")
        assert "refused" in run(world, own, code=1)  # it would leave the others with nothing
        assert "the files hold no" in run(world, own, words=("--merchant", "1"), code=1)
        assert run(world, own, words=("--merchant", "2"))["rows_changed"] > 0
        assert _events(world, "merchant_id <> 2") == before
        wanted = [row for row in past.numbers["source_daily"] if row.split(",")[1] == "2"]
        found = [row for row in everything(world)["source_daily"] if row.split(",")[1] == "2"]
        assert found == wanted


def test_a_what_if_shows_what_a_bug_did_and_writes_nothing(bootstrap: str, past: Past) -> None:
    with own_world(bootstrap, past.topic) as world:
        world.merchants(5)
        ingest(world, len(past.messages), "bots")
        before = everything(world)
        plan = ("plan", *days(-5, 2), "--json", "--diff")
        whole = reprocess(world, *plan, "--sample", "100%")
        assert differences(everything(world), before) == []
        assert list(whole["columns"]) == ["is_bot"]
        assert whole["rejects_differing"] == 0
        measures = {each["measure"]: each for each in whole["measures"]}
        assert measures["bots"]["before"] == 0
        assert measures["bots"]["after"] == whole["rows_differing"] > 0
        assert measures["events"]["before"] - measures["events"]["after"] == whole["rows_differing"]
        part = reprocess(world, *plan, "--sample", "50%")
        assert 0 < part["batches_read"] < part["batches"] or part["batches"] <= PARTITIONS
        assert part == reprocess(world, *plan, "--sample", "50%")
        assert run(world)["rows_changed"] == whole["rows_differing"]
        assert reprocess(world, *plan, "--sample", "100%")["rows_differing"] == 0


def _service_logs(messages: list[tuple[bytes, bytes]], folder: Path) -> list[Path]:
    """The messages as a service's own files: plain, gzip and zstd, the last one rotated."""
    third = len(messages) // 3
    parts = [messages[:third], messages[third : 2 * third], messages[2 * third :]]
    texts = [b"".join(value + b"\n" for _, value in part) for part in parts]
    paths = [folder / name for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst")]
    paths[0].write_bytes(texts[0])
    paths[1].write_bytes(gzip.compress(texts[1]))
    paths[2].write_bytes(zstd.compress(texts[2]))
    return paths


def _events(world: World, where: str) -> list[str]:
    found = []
    for dsn in world.shards:
        with psycopg.connect(dsn) as connection:
            rows = connection.execute(f"SELECT e::text FROM events AS e WHERE {where}").fetchall()
            found += [row[0] for row in rows]
    return sorted(found)


def _delete_records(world: World) -> None:
    admin = AdminClient({"bootstrap.servers": world.bootstrap})
    ends = [TopicPartition(world.topic, each, -1) for each in range(PARTITIONS)]
    for deleted in admin.delete_records(ends).values():
        deleted.result(30)


def _make_topic_again(world: World) -> None:
    admin = AdminClient({"bootstrap.servers": world.bootstrap})
    old = _topic_id(admin, world.topic)
    admin.delete_topics([world.topic])[world.topic].result(30)
    wait_until(lambda: _topic_id(admin, world.topic) is None, 30, "the topic was not deleted")
    ensure_topic(world.bootstrap, world.topic, PARTITIONS, {})
    wait_until(
        lambda: _topic_id(admin, world.topic) not in (None, old), 30, "the topic was not made"
    )


def _topic_id(admin: AdminClient, topic: str) -> str | None:
    """None where there is no such topic, or not everybody knows of it yet."""
    answer = admin.describe_topics(TopicCollection([topic]), request_timeout=10)
    try:
        return str(answer[topic].result(30).topic_id)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
        return None
