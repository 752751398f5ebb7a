"""The spool keeps what it was given, in order, whatever happens to the process."""

from contextlib import closing
from pathlib import Path

import pytest

from api import spool as spool_module
from api.spool import Spool, SpoolFullError, records_of

RECORDS = [(b"1", b"first"), (b"2", b""), (b"3", b"x" * 10_000)]


async def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        await spool.append(RECORDS[:1])
        await spool.append(RECORDS[1:])
        found = [record for segment in spool.segments() for record in records_of(segment)]
    assert found == RECORDS


async def test_a_new_process_goes_on_after_the_last_segment(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as first:
        await first.append(RECORDS[:1])
    with closing(Spool(tmp_path)) as second:
        assert second.pending
        await second.append(RECORDS[1:])
        found = [record for segment in second.segments() for record in records_of(segment)]
    assert found == RECORDS


async def test_two_workers_never_write_the_same_directory(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as one, closing(Spool(tmp_path)) as other:
        await one.append(RECORDS[:1])
        assert not other.pending


async def test_a_record_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    with closing(Spool(tmp_path)) as spool:
        await spool.append(RECORDS)
        (segment,) = spool.segments()
    segment.write_bytes(segment.read_bytes()[:-1])
    assert list(records_of(segment)) == RECORDS[:-1]


async def test_a_full_spool_says_so_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_BYTES", 100)
    with closing(Spool(tmp_path)) as spool:
        with pytest.raises(SpoolFullError):
            await spool.append(RECORDS)
        assert not spool.pending
