"""What an ingester is told at its start."""

from dataclasses import dataclass, field
from pathlib import Path

from events.limits import Limits


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Frozen: read once at the rim.

    A batch leaves when it has `batch_messages` messages or `batch_bytes` bytes, or when its oldest
    message has waited `batch_age_s`. A few batches are in memory at a time, each several times
    over: as messages, as columns and as rows.
    """

    bootstrap: str
    topic: str
    shards: tuple[str, ...]
    kafka_options: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    dedupe_window_s: int = 900
    batch_messages: int = 50_000
    batch_bytes: int = 32 << 20
    batch_age_s: float = 0.5
    refresh_every_s: float = 2.0
    watch_every_s: float = 10.0
    country_file: Path | None = None
    instance_id: str | None = None  # a static member of the group, whose restart moves nothing
