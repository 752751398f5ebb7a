"""The spool keeps what it was given, in order, whatever happens to the process."""

from pathlib import Path

import pytest

from api import spool as spool_module
from api.spool import Spool, SpoolFullError, records_of

RECORDS = [(b"1", b"first"), (b"2", b""), (b"3", b"x" * 10_000)]


async def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.append(RECORDS[:1])
    await spool.append(RECORDS[1:])
    assert [record for segment in spool.segments() for record in records_of(segment)] == RECORDS


async def test_a_new_process_goes_on_after_the_last_segment(tmp_path: Path) -> None:
    await Spool(tmp_path).append(RECORDS[:1])
    second = Spool(tmp_path)
    assert second.pending
    await second.append(RECORDS[1:])
    assert [record for segment in second.segments() for record in records_of(segment)] == RECORDS


async def test_a_record_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.append(RECORDS)
    (segment,) = spool.segments()
    segment.write_bytes(segment.read_bytes()[:-1])
    assert list(records_of(segment)) == RECORDS[:-1]


async def test_a_full_spool_says_so_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_BYTES", 100)
    spool = Spool(tmp_path)
    with pytest.raises(SpoolFullError):
        await spool.append(RECORDS)
    assert not spool.pending
