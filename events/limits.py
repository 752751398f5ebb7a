"""Bounds of event time and of log time."""

from dataclasses import dataclass
from typing import Final

# Log times that a calendar, a timestamp column and a partition by time can hold. A producer that
# sets the time itself (CreateTime) may claim any 64-bit number, such as microseconds taken for
# milliseconds (the year 58871), or none (-1).
EARLIEST_LOG_MS: Final = 0
LATEST_LOG_MS: Final = 4_102_444_800_000  # 2100-01-01


@dataclass(frozen=True, slots=True)
class Limits:
    """How far event time may lie from log time, and which partition a merchant's events are in."""

    max_age_days: int = 365
    max_ahead_s: int = 3600
    partitions: int | None = None  # of the topic; None: an event may be in any


def is_credible(logged_ms: int) -> bool:
    """Whether a log time lies within the bounds; one at a bound was moved there."""
    return EARLIEST_LOG_MS < logged_ms < LATEST_LOG_MS
