"""What a replay is told at its start."""

from dataclasses import dataclass, field
from pathlib import Path

from events.limits import Limits


@dataclass(frozen=True, slots=True)
class ReprocessSettings:
    """Frozen: read once at the rim.

    A partition's day of more than `slice_messages` is cut, down to hours, so that its rows fit in
    memory and its transaction stays short. Each of `parallel` partitions holds two slices: one that
    is put in place, and the next one, read meanwhile.
    """

    bootstrap: str
    topic: str
    shards: tuple[str, ...]
    kafka_options: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    dedupe_window_s: int = 900
    country_file: Path | None = None
    slice_messages: int = 250_000
    parallel: int = 2
    messages_per_s: float | None = None
    max_lag_s: float = 30.0
