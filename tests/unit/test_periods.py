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


@pytest.mark.parametrize(
    ("zone", "day", "wanted"),
    [
        # set from 02:45 to 03:45, in the middle of two hours
        ("Pacific/Chatham", "2026-09-27", ["02:00+12:45", "03:45+13:45", "04:00+13:45"]),
        # back by half an hour: half of the hour from one comes twice
        ("Australia/Lord_Howe", "2026-04-05", ["01:00+11:00", "01:30+10:30", "02:00+10:30"]),
        # back at one to midnight: the day has two midnights, and begins at the first
        ("Atlantic/Azores", "2026-10-25", ["00:00+00:00", "00:00-01:00", "01:00-01:00"]),
        # forward at midnight: the day begins at one
        ("Africa/Cairo", "2026-04-24", ["01:00+03:00", "02:00+03:00"]),
    ],
)  # fmt: skip
def test_hours_in_which_the_clock_is_set(zone: str, day: str, wanted: list[str]) -> None:
    place = ZoneInfo(zone)
    tomorrow = day[:-2] + f"{int(day[-2:]) + 1:02}"
    period = resolve([day, tomorrow], place, NOW)
    shown = [label[11:16] + label[19:] for label in period.labels("hour").values()]
    first = shown.index(wanted[0])
    assert shown[first : first + len(wanted)] == wanted
    assert len(period.buckets("day")) == 1
    hours = period.buckets("hour")
    assert [floor(at, "hour", place) for at in hours] == list(hours)


def test_a_range_across_a_change_of_a_zones_rules() -> None:
    """Kazakhstan went from +06:00 to +05:00 for good on the first of March 2024."""
    place = ZoneInfo("Asia/Almaty")
    period = resolve(["2024-02-28", "2024-03-02"], place, NOW)
    assert list(period.labels("day").values()) == [
        "2024-02-28T00:00:00+06:00",
        "2024-02-29T00:00:00+06:00",
        "2024-03-01T00:00:00+05:00",
    ]
    assert len(period.buckets("hour")) == 73


def test_weeks_are_iso_weeks_across_the_year() -> None:
    period = resolve(["2025-12-25", "2026-01-12"], ZoneInfo("Asia/Kathmandu"), NOW)
    starts = [label[:10] for label in period.labels("week").values()]
    assert starts == ["2025-12-22", "2025-12-29", "2026-01-05"]
