"""What the API is told at its start."""

from dataclasses import dataclass, field
from pathlib import Path

from events.limits import Limits


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Points a minute, of all workers of a server together."""

    of_key: int = 6_000
    # A public key is in everybody's hands: one visitor must not spend what all of them share.
    of_public_visitor: int = 600
    of_public_key: int = 60_000
    of_address: int = 60_000  # requests of one address, whatever keys they carry


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
    rate_limits: RateLimits = field(default_factory=RateLimits)
    pool_size: int = 4  # connections of a worker to a shard, and as many for scans
    cache_seconds: float = 2.0  # how long an answer is served again whatever happens; 0: none is
    # where the workers of one server share answers and counters
    shared_dir: Path | None = None
    raw_rows: int = 20_000_000  # what a question that no rollup answers may read
    country_file: Path | None = None  # tells the countries of browsers' addresses
    draining_file: Path | None = None  # is there once this worker is about to go
    page_folders: tuple[Path, ...] = ()  # with the files that browsers load
