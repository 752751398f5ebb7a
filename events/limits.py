"""The bounds that event time must keep."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How far event time may lie from log time."""

    max_age_days: int = 365
    max_ahead_s: int = 3600
