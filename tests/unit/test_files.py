"""Files as a source: what is read of them, and which offsets their lines get."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from events.batch import Messages
from events.limits import Limits
from events.partitions import partition_of
from reprocess.archive_files import (
    FORMATS,
    BrokenArchiveError,
    Kept,
    Origin,
    origin_of,
    read_archive,
)
from reprocess.file_source import FileSource, uncovered
from reprocess.read_files import UNKNOWN, Told, Within, read_files, received_ms
from reprocess.spool import Spool, ask, read_batch
from reprocess.topic_log import RefusedError

START = datetime(2026, 9, 1, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
HOUR_MS = 3_600_000
PARTITIONS = 4


def event(merchant: int, ms: int | None, **more: Any) -> bytes:
    """A line of a service's log."""
    told = {"merchant_id": merchant, "event": "page_view", "visitor_id": "v", **more}
    return json.dumps(told if ms is None else {**told, "timestamp": ms}).encode()


def written(path: Path, lines: list[bytes]) -> Path:
    """A service's log."""
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def within(hours: int = 24, merchant: int | None = None) -> Within:
    """A window of so many hours, on all partitions."""
    end = START_MS + hours * HOUR_MS
    return Within(PARTITIONS, frozenset(range(PARTITIONS)), START_MS, end, Limits(), merchant)


def read(paths: list[Path], asked: Within | None = None) -> tuple[Told, list[Messages]]:
    """What files hold, and their messages by partition."""
    with Spool() as spool:
        told = read_files(paths, spool, asked or within(), lambda _: None)
        connection = spool.connect()
        everything = (-(2**62), 2**62)
        found = [
            batch
            for partition in range(PARTITIONS)
            if (batch := read_batch(ask(connection, partition, everything), partition))
        ]
        connection.close()
    return told, found


def kept(count: int, first: int = 100) -> Kept:
    """Messages with everything that is hard to write."""
    values: list[bytes | None] = [b"\xff\xfe", None, b"", b'{"a": "\xc3\xa9\\n"}', b"line\nbreak"]
    keys: list[bytes | None] = [b"42", None, b"\xff", b"", b"7"]
    return Kept(
        Messages(
            [values[at % 5] for at in range(count)],
            np.zeros(count, np.int32),
            np.arange(first, first + count),
            np.full(count, START_MS),
        ),
        [keys[at % 5] for at in range(count)],
    )


@pytest.fixture(params=sorted(FORMATS))
def archived(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive's file of twenty messages, in either format."""
    ending, writer_of = FORMATS[request.param]
    path = tmp_path / f"a{ending}"
    writer = writer_of(path, Origin("t", "id", 0, [(100, 120)]))
    writer.write(kept(10))
    writer.write(kept(10, 110))
    writer.close()
    return path


def test_an_archive_gives_back_what_was_written(archived: Path) -> None:
    assert origin_of(archived) == Origin("t", "id", 0, [(100, 120)])
    found = list(read_archive(archived))
    messages = Messages.joined([each.messages for each in found])
    assert messages.values == kept(10).messages.values + kept(10, 110).messages.values
    assert [key for each in found for key in each.keys] == kept(10).keys * 2
    assert messages.offsets.tolist() == list(range(100, 120))
    assert set(messages.logged_ms.tolist()) == {START_MS}


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_an_archive_that_was_cut_off_is_refused(archived: Path, cut: float) -> None:
    whole = archived.read_bytes()
    archived.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(BrokenArchiveError):
        list(read_archive(archived))
    with pytest.raises(RefusedError):
        _, found = read([archived])
        if not found:
            raise RefusedError("nothing of it was read")


def test_messages_of_an_archive_keep_their_offsets_and_count_once(archived: Path) -> None:
    told, found = read([archived])
    assert told.are_archives
    assert told.covered(0) == [(100, 120)]
    assert found[0].offsets.tolist() == list(range(100, 120))
    with pytest.raises(RefusedError, match="the same as"):
        read([archived, archived])


def test_lines_stand_below_zero_in_order_of_time_and_where_producers_put_them(
    tmp_path: Path,
) -> None:
    lines = [event(7, START_MS + at, event_id=str(at)) for at in (5, 1, 1, 3)]
    _, (messages,) = read([written(tmp_path / "a.jsonl", lines)])
    assert messages.partitions.tolist() == [partition_of(7, PARTITIONS)] * 4
    assert messages.values == [lines[1], lines[2], lines[3], lines[0]]
    assert (messages.offsets < 0).all()
    assert (np.diff(messages.offsets) > 0).all()
    assert messages.logged_ms.tolist() == [START_MS + at for at in (1, 1, 3, 5)]


def test_the_same_lines_have_the_same_offsets_whatever_else_is_read(tmp_path: Path) -> None:
    first = written(tmp_path / "a.jsonl", [event(7, START_MS + at) for at in range(10)])
    later = written(tmp_path / "b.jsonl", [event(7, START_MS + 50 + at) for at in range(10)])
    alone = read([first])[1][0]
    both = read([later, first])[1][0]
    assert both.offsets[:10].tolist() == alone.offsets.tolist()
    assert both.values[:10] == alone.values


def test_a_line_without_a_time_has_that_of_the_line_before(tmp_path: Path) -> None:
    lines = [b"{broken", event(7, START_MS + 5), event(7, None), b"{broken too"]
    told, found = read([written(tmp_path / "a.jsonl", lines)])
    messages = Messages.joined(found)
    assert set(messages.logged_ms.tolist()) == {START_MS + 5}
    assert told.files[0].in_window == 4
    with pytest.raises(RefusedError, match="tells a time"):
        read([written(tmp_path / "b.jsonl", [b"{broken"])])


def test_a_receive_time_is_the_log_time_and_event_time_stays(tmp_path: Path) -> None:
    line = event(7, START_MS, received_at="2026-09-01T00:00:09Z")
    _, (messages,) = read([written(tmp_path / "a.jsonl", [line])])
    assert messages.logged_ms.tolist() == [START_MS + 9_000]
    _, (plain,) = read([written(tmp_path / "b.jsonl", [event(7, START_MS)])])
    assert plain.offsets.tolist() == messages.offsets.tolist()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b'{"date": 1788220800.5}', 1_788_220_800_500),
        (b'{"date": 1788220800500}', 1_788_220_800_500),
        (b'{"received_at": "2026-09-01T02:00:00+02:00", "date": 1}', START_MS),
        (b'{"received_at": "2026-09-01T00:00:00"}', UNKNOWN),
        (b'{"received_at": "soon"}', UNKNOWN),
        (b'{"received_at": true}', UNKNOWN),
        (b'{"received_at": -5}', UNKNOWN),
        (b'{"received_at": [1]}', UNKNOWN),
        (b'{"date": 1, ', UNKNOWN),
        (b'{"timestamp": 1}', UNKNOWN),
    ],
)
def test_receive_times_are_read_or_not_known(line: bytes, wanted: int) -> None:
    assert received_ms(line) == wanted


def test_only_the_window_and_the_merchant_are_kept(tmp_path: Path) -> None:
    lines = [event(merchant, START_MS + hour * HOUR_MS) for merchant in (1, 2) for hour in range(5)]
    path = written(tmp_path / "a.jsonl", lines)
    told, found = read([path], within(hours=2))
    assert (told.files[0].messages, told.files[0].in_window) == (10, 4)
    assert (told.files[0].first, told.files[0].last) == (START, START + timedelta(hours=4))
    assert sum(map(len, found)) == 4
    told, found = read([path], within(hours=2, merchant=2))
    assert set().union(*told.merchants.values()) == {2}
    assert sum(map(len, found)) == 2


def test_a_time_beyond_any_calendar_is_none(tmp_path: Path) -> None:
    lines = [event(7, START_MS), event(7, 10**15), event(7, START_MS + 10**12)]
    told, found = read([written(tmp_path / "a.jsonl", lines)])
    assert told.files[0].messages == 3
    # the second will be a reject, at the time of the line before it; the third is years later
    assert [each.values for each in found] == [lines[:2]]


def test_archives_and_services_logs_do_not_mix(archived: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="one after the other"):
        read([archived, written(tmp_path / "a.jsonl", [event(7, START_MS)])])


async def test_a_source_reads_a_window_and_nothing_else(tmp_path: Path) -> None:
    lines = [event(7, START_MS + hour * HOUR_MS) for hour in range(24)]
    partition = partition_of(7, PARTITIONS)
    with Spool() as spool:
        told = read_files([written(tmp_path / "a.jsonl", lines)], spool, within(), lambda _: None)
        source = FileSource(spool, told)
        window = (START + timedelta(hours=3), START + timedelta(hours=5))
        ranges = await source.ranges(partition, window, pl.DataFrame())
        found = [batch async for batch in source.read(partition, ranges)]
        assert [value for batch in found for value in batch.values] == lines[3:5]
        assert await source.ranges(partition, (START - timedelta(1), START), pl.DataFrame()) == []
        await source.close()


def test_lines_of_the_ledger_that_an_archive_lacks_are_found() -> None:
    lines = pl.DataFrame({"start_offset": [0, 10, 20, 30], "end_offset": [10, 20, 30, 40]})
    assert uncovered(lines, [(0, 40)]) == []
    assert uncovered(lines, [(0, 15), (20, 40)]) == [(10, 20)]
    assert uncovered(lines, [(12, 40)]) == [(0, 10), (10, 20)]
    assert uncovered(lines, []) == [(0, 10), (10, 20), (20, 30), (30, 40)]
