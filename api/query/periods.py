"""Ranges of time as merchants say them, resolved in their zone; any IANA zone is exact."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from api.problems import invalid, unknown

MAX_DAYS: Final = 400
MAX_POINTS: Final = 10_000
FIRST_YEAR, LAST_YEAR = 1970, 9000  # far enough from where calendars end to add and subtract
_DAYS: Final = {"7d": 7, "28d": 28, "30d": 30, "90d": 90}
NAMES: Final = ("today", "yesterday", *_DAYS, "month", "year")
_QUARTER: Final = timedelta(minutes=15)  # clocks are set at quarters of an hour
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_419_200}


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open, UTC instants; days and hours are those of `zone`."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    def previous(self) -> "Period":
        """The period of the same local length that ends where this one starts."""
        local_start, local_end = (at.astimezone(self.zone) for at in (self.start, self.end))
        length = local_end.replace(tzinfo=None) - local_start.replace(tzinfo=None)
        start = (local_start.replace(tzinfo=None) - length).replace(tzinfo=self.zone)
        return Period(start.astimezone(UTC), self.start, self.zone)

    def buckets(self, interval: str) -> tuple[datetime, ...]:
        """The start, UTC, of every bucket that the period touches, in order."""
        return tuple(_labelled(self, interval))

    def is_utc(self, interval: str) -> bool:
        """Whether the buckets of the period are those of UTC as well: every minute is, hours and
        days of some zones are."""
        return _is_utc(self, interval)

    def labels(self, interval: str) -> Mapping[datetime, str]:
        """Each bucket's start, UTC, and how it is written: RFC 3339, local."""
        return MappingProxyType(_labelled(self, interval))

    def check_points(self, interval: str | None) -> None:
        """Refuse series too long to answer."""
        if interval is None:
            return
        points = (self.end - self.start).total_seconds() / _SECONDS[interval]
        if points > MAX_POINTS:
            raise invalid(
                "dimensions",
                f"time:{interval} over this range is {points:.0f} points; at most {MAX_POINTS}: "
                "ask for a coarser interval or a shorter range.",
            )


@lru_cache(256)  # dashboards ask for the same few ranges all day
def _labelled(period: Period, interval: str) -> dict[datetime, str]:
    labels: dict[datetime, str] = {}
    at = floor(period.start, interval, period.zone)
    while at < period.end:
        labels[at] = at.astimezone(period.zone).isoformat()
        at = following(at, interval, period.zone)
    return labels


@lru_cache(256)
def _is_utc(period: Period, interval: str) -> bool:
    if interval not in ("minute", "hour", "day"):
        return False
    length = _SECONDS[interval]
    return all(start.timestamp() % length == 0 for start in _labelled(period, interval))


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())  # reads the whole database of zones


def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name."""
    if name not in _zones():
        raise unknown("timezone", name, _zones())
    return ZoneInfo(name)


def resolve(given: str | list[str], place: ZoneInfo, now: datetime) -> Period:
    """A named range or two dates or instants, as instants."""
    if isinstance(given, str):
        return _named(given, place, now)
    if len(given) != 2:
        raise invalid("date_range", "A range is a name, or [from, to).")
    start, end = (_instant(text, place) for text in given)
    if start >= end:
        raise invalid("date_range", "The range ends before it starts: [from, to) with from < to.")
    if end - start > timedelta(days=MAX_DAYS):
        raise invalid("date_range", f"A range is at most {MAX_DAYS} days.")
    return Period(start, end, place)


def _named(name: str, place: ZoneInfo, now: datetime) -> Period:
    today = now.astimezone(place).date()
    tomorrow = today + timedelta(days=1)
    match name:
        case "today":
            days = (today, tomorrow)
        case "yesterday":
            days = (today - timedelta(days=1), today)
        case "month":
            days = (today.replace(day=1), tomorrow)
        case "year":
            days = (today.replace(month=1, day=1), tomorrow)
        case _ if name in _DAYS:
            days = (tomorrow - timedelta(days=_DAYS[name]), tomorrow)
        case _:
            raise unknown("date_range", name, NAMES)
    return Period(midnight(days[0], place), midnight(days[1], place), place)


def midnight(day: date, place: ZoneInfo) -> datetime:
    """The instant at which a local day starts."""
    return datetime.combine(day, time(), place).astimezone(UTC)


def _instant(text: str, place: ZoneInfo) -> datetime:
    try:
        if len(text) == len("2026-10-01"):
            day = date.fromisoformat(text)
            check_year(day.year, "date_range")
            return midnight(day, place)
        moment = datetime.fromisoformat(text)
        check_year(moment.year, "date_range")
        if moment.tzinfo is None:
            raise invalid("date_range", f"{text[:40]!r} needs an offset: end it with Z or +02:00.")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(
            "date_range", f"{text[:40]!r} is neither a date (2026-10-01) nor an RFC 3339 instant."
        ) from error


def check_year(year: int, field: str) -> None:
    """Refuse a time that nothing can be reckoned with.

    Raises:
        ProblemDetailsException: 400.
    """
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise invalid(field, f"A time lies in the years {FIRST_YEAR} to {LAST_YEAR}.")


def floor(moment: datetime, interval: str, place: ZoneInfo) -> datetime:
    """The start, UTC, of the local bucket that holds `moment`."""
    local = moment.astimezone(place)
    if interval in ("minute", "hour"):
        seconds = local.second + local.microsecond / 1e6
        if interval == "hour":
            seconds += local.minute * 60
        start = moment - timedelta(seconds=seconds)
        while start.astimezone(place).utcoffset() != local.utcoffset():
            start += _QUARTER  # the clock changed by half an hour within this one
        return start
    day = local.date()
    if interval == "week":
        day -= timedelta(days=day.weekday())
    elif interval == "month":
        day = day.replace(day=1)
    return midnight(day, place)


def _next_hour(start: datetime, place: ZoneInfo) -> datetime:
    """The next local hour; or the instant before it at which the clock is set, which begins another
    hour though it be in the middle of it (02:45 becomes 03:45 on the Chatham Islands)."""
    local = start.astimezone(place)
    end = start + timedelta(minutes=60 - local.minute)
    if end.astimezone(place).utcoffset() == local.utcoffset():
        return end
    at = start + _QUARTER
    while at < end and at.astimezone(place).utcoffset() == local.utcoffset():
        at += _QUARTER
    return min(at, end)


def following(start: datetime, interval: str, place: ZoneInfo) -> datetime:
    """The start of the bucket after the one that starts at `start`."""
    if interval == "minute":
        return start + timedelta(minutes=1)
    if interval == "hour":
        return _next_hour(start, place)
    day = start.astimezone(place).date()
    if interval == "month":
        return midnight((day.replace(day=1) + timedelta(days=32)).replace(day=1), place)
    return midnight(day + timedelta(days=7 if interval == "week" else 1), place)
