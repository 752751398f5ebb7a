"""Stretches of time: what changed, and what to make again because of it."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

Window = tuple[datetime, datetime]  # half-open


def merged(windows: Iterable[Window]) -> list[Window]:
    """The same moments in order, as windows that neither overlap nor touch."""
    joined: list[Window] = []
    for start, end in sorted(windows):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def floor_to(bucket: timedelta, moment: datetime) -> datetime:
    """The start of the bucket that holds `moment`, counted from the epoch, as time_bucket does."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return moment - (moment - epoch) % bucket


def by_day(windows: Iterable[Window]) -> list[Window]:
    """The same moments, cut at each midnight, UTC."""
    cut: list[Window] = []
    for start, end in windows:
        at = start
        while at < end:
            midnight = floor_to(timedelta(days=1), at) + timedelta(days=1)
            cut.append((at, min(midnight, end)))
            at = midnight
    return cut
