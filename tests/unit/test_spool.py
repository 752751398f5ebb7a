"""The spool keeps what it was given, in order, whatever happens to the process or the disk."""

import asyncio
import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from api import spool as spool_module
from api.spool import Record, Spool, SpoolBrokenError, SpoolFullError, records_of

RECORDS = [(b"1", b"first"), (b"2", b"second"), (b"3", b"x" * 10_000)]


def segments(folder: Path) -> int:
    """How many there are."""
    return len(list(folder.rglob("*.segment")))


def drained(spool: Spool) -> list[Record]:
    """Everything in it, in order; it is empty afterwards."""
    found: list[Record] = []
    while (segment := spool.oldest()) is not None:
        found += records_of(segment)
        spool.remove(segment)
    return found


async def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path)) as spool:
        await spool.append(RECORDS[:1])
        await spool.append(RECORDS[1:])
        assert spool.pending
        assert drained(spool) == RECORDS
        assert not spool.pending


async def test_a_new_process_goes_on_after_the_last_segment(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path)) as first:
        await first.append(RECORDS[:1])
    with closing(Spool.take(tmp_path)) as second:
        assert second.pending
        await second.append(RECORDS[1:])
        assert drained(second) == RECORDS


async def test_two_workers_never_write_the_same_directory(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path)) as one, closing(Spool.take(tmp_path)) as other:
        await one.append(RECORDS[:1])
        assert not other.pending


@pytest.mark.parametrize("damage", ["cut off", "a bit", "zeros behind"])
async def test_a_record_that_a_crash_damaged_is_left_out(tmp_path: Path, damage: str) -> None:
    with closing(Spool.take(tmp_path)) as spool:
        await spool.append(RECORDS)
        segment = spool.oldest()
        assert segment is not None
        whole = segment.read_bytes()
        if damage == "cut off":
            segment.write_bytes(whole[:-1])
        elif damage == "a bit":
            segment.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        else:
            segment.write_bytes(whole + bytes(4096))
        expected = RECORDS if damage == "zeros behind" else RECORDS[:-1]
        assert list(records_of(segment)) == expected


async def test_segments_of_the_format_before_are_drained_first(tmp_path: Path) -> None:
    old = tmp_path / "0" / f"{7:020d}.spool"
    old.parent.mkdir()
    old.write_bytes(b"\0\0\0\1\0\0\0\4" + b"1" + b"past")
    with closing(Spool.take(tmp_path)) as spool:
        await spool.append(RECORDS)
        assert drained(spool) == [(b"1", b"past"), *RECORDS]


async def test_requests_that_wait_together_share_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = 0
    fsync = os.fsync

    def counted(file: int) -> None:
        nonlocal synced
        synced += 1
        fsync(file)

    monkeypatch.setattr(os, "fsync", counted)
    with closing(Spool.take(tmp_path)) as spool:
        records = [(b"1", b"event %d" % number) for number in range(2_000)]
        await asyncio.gather(*(spool.append([record]) for record in records))
        assert synced <= 4  # the directory's, the first one's, and the others' together
        assert segments(tmp_path) == 1
        assert drained(spool) == records


async def test_an_append_costs_the_same_however_much_is_spooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1)
    with closing(Spool.take(tmp_path)) as spool:
        for number in range(50):
            await spool.append([(b"1", b"event %d" % number)])
        assert segments(tmp_path) == 50
        monkeypatch.setattr(Path, "glob", None)  # nothing is listed
        monkeypatch.setattr(Path, "stat", None)  # nor looked at
        await spool.append([(b"1", b"one more")])


async def test_a_full_spool_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path, max_bytes=100)) as spool:
        with pytest.raises(SpoolFullError):
            await spool.append(RECORDS)
        assert not spool.pending


async def test_one_merchant_leaves_three_quarters_to_the_others(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path, max_bytes=40_000)) as spool:
        with pytest.raises(SpoolFullError, match="merchant 3"):
            await spool.append([(b"3", b"x" * 10_001)])
        await spool.append([(b"3", b"x" * 9_000)])
        with pytest.raises(SpoolFullError, match="merchant 3"):
            await spool.append([(b"3", b"x" * 2_000)])
        await spool.append([(b"4", b"x" * 9_000)])
        assert len(drained(spool)) == 2
        await spool.append([(b"3", b"x" * 9_000)])


async def test_a_disk_that_refuses_fails_the_request_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with closing(Spool.take(tmp_path)) as spool:
        await spool.append(RECORDS[:1])

        def half(file: int, content: bytes) -> int:
            write(file, bytes(content)[:7])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(SpoolBrokenError, match="No space left"):
            await spool.append(RECORDS[1:2])
        monkeypatch.setattr(os, "write", write)
        await spool.append(RECORDS[2:])
        assert drained(spool) == [RECORDS[0], RECORDS[2]]
        assert not spool.pending


async def test_a_nearly_full_disk_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "FREE_BYTES", 1 << 60)
    with closing(Spool.take(tmp_path)) as spool:
        with pytest.raises(SpoolBrokenError, match="of the disk are free"):
            await spool.append(RECORDS)
        assert not spool.pending


async def test_nobody_else_on_the_machine_may_read_it(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path / "spool")) as spool:
        await spool.append(RECORDS)
        spool.bury([b"{}"])
        for path in (tmp_path / "spool").rglob("*"):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


async def test_what_the_log_refuses_is_kept_as_lines(tmp_path: Path) -> None:
    with closing(Spool.take(tmp_path)) as spool:
        spool.bury([b'{"event":"a"}', b'{"event":"b"}'])
        spool.bury([b'{"event":"c"}'])
        lines = spool.dead_letters.read_bytes().splitlines()
    assert lines == [b'{"event":"a"}', b'{"event":"b"}', b'{"event":"c"}']
