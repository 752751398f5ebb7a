"""Ranges and buckets of any zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.query.periods import floor, following, resolve

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 9, 21, 22, 30, tzinfo=UTC)  # the 22nd in Berlin


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("today", "2026-09-21T22:00:00Z", "2026-09-22T22:00:00Z"),
        ("yesterday", "2026-09-20T22:00:00Z", "2026-09-21T22:00:00Z"),
        ("7d", "2026-09-15T22:00:00Z", "2026-09-22T22:00:00Z"),
        ("month", "2026-08-31T22:00:00Z", "2026-09-22T22:00:00Z"),
        ("year", "2025-12-31T23:00:00Z", "2026-09-22T22:00:00Z"),
    ],
)
def test_named_ranges_are_days_of_the_zone(name: str, start: str, end: str) -> None:
    period = resolve(name, BERLIN, NOW)
    assert (period.start, period.end) == (
        datetime.fromisoformat(start),
        datetime.fromisoformat(end),
    )


def test_two_dates_are_half_open_days() -> None:
    period = resolve(["2026-10-01", "2026-11-01"], BERLIN, NOW)
    assert len(period.buckets("day")) == 31
    assert len(period.buckets("hour")) == 31 * 24 + 1  # summer time ends on the 25th


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_days_on_which_the_clock_changes(day: str, hours: int) -> None:
    following_day = day[:-2] + str(int(day[-2:]) + 1)
    period = resolve([day, following_day], BERLIN, NOW)
    assert len(period.buckets("hour")) == hours
    assert len(period.buckets("day")) == 1


def test_the_previous_period_is_of_the_same_local_length() -> None:
    period = resolve(["2026-03-30", "2026-04-06"], BERLIN, NOW)  # the week after the change
    before = period.previous()
    assert before.start == datetime.fromisoformat("2026-03-23T00:00:00+01:00")
    assert before.end == period.start


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2035, 1, 1)),  # noqa: DTZ001 - made aware below
    st.sampled_from(["minute", "hour", "day", "week", "month"]),
    st.sampled_from(
        ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"]
    ),
)
def test_every_moment_is_in_exactly_one_bucket(at: datetime, interval: str, name: str) -> None:
    place = ZoneInfo(name)
    moment = at.replace(tzinfo=UTC)
    start = floor(moment, interval, place)
    assert start <= moment < following(start, interval, place)
    assert floor(start, interval, place) == start
