"""Rows that were read ahead are used only where nothing has replaced them since."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from db.runs import Changes, Done, Slice
from db.standing import EVENT_SCHEMA, ITEM_SCHEMA, Rows
from reprocess.replace import Taken, Turn

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
BEFORE, AFTER, ELSEWHERE = (NOON + minute * timedelta(minutes=1) for minute in range(3))
FIRST = Slice(3, NOON, NOON + HOUR, "pending")


def ahead(seen: datetime | None) -> Taken:
    """Rows of the next slice, read when any of the partition had last been replaced then."""
    return Taken(Rows(pl.DataFrame(schema=EVENT_SCHEMA), pl.DataFrame(schema=ITEM_SCHEMA)), seen)


def done(*hours: datetime) -> Done:
    """A replacement that changed rows of these hours."""
    return Done(1, Changes(1, 1, 1, {}, [(hour, hour + HOUR) for hour in hours]), [])


@pytest.mark.parametrize("seen", [None, BEFORE])
def test_rows_stand_while_nothing_was_replaced(seen: datetime | None) -> None:
    assert Turn().rows_of(ahead(seen), seen) is not None
    assert Turn().rows_of(ahead(seen), AFTER) is None


@pytest.mark.parametrize("before", [None, BEFORE])
def test_the_slice_before_leaves_them_if_it_kept_to_its_window(before: datetime | None) -> None:
    turn = Turn()
    turn.note(FIRST, done(NOON), before, AFTER)
    assert turn.rows_of(ahead(before), AFTER) is not None
    assert turn.rows_of(ahead(AFTER), AFTER) is not None
    assert turn.rows_of(ahead(before), ELSEWHERE) is None  # another process replaced some
    assert turn.rows_of(ahead(ELSEWHERE), AFTER) is None


@pytest.mark.parametrize("beyond", [NOON + HOUR, NOON - HOUR])
def test_they_are_read_again_if_it_changed_rows_beyond_its_window(beyond: datetime) -> None:
    turn = Turn()
    turn.note(FIRST, done(NOON, beyond), BEFORE, AFTER)
    assert turn.rows_of(ahead(BEFORE), AFTER) is None
    assert turn.rows_of(ahead(AFTER), AFTER) is not None
