"""What the API is told at its start."""

from dataclasses import dataclass, field
from pathlib import Path

from events.limits import Limits


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Frozen: read once at the rim."""

    bootstrap: str
    topic: str
    shards: tuple[str, ...]
    spool_dir: Path
    read_shards: tuple[str, ...] = ()  # one a shard, in the same order; none: the shards answer
    kafka_options: dict[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    requests_per_minute: int = 6000
    pool_size: int = 4  # connections of a worker to a shard, and as many for scans
    cache_seconds: float = 2.0  # how long an answer is served again whatever happens; 0: none is
    answers_dir: Path | None = None  # where the workers of one server share answers
    raw_rows: int = 20_000_000  # what a question that no rollup answers may read
    country_file: Path | None = None  # tells the countries of browsers' addresses
    draining_file: Path | None = None  # is there once this worker is about to go
    page_folders: tuple[Path, ...] = ()  # with the files that browsers load
