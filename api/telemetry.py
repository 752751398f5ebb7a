"""Telemetry of the API beside what Litestar counts of its requests."""

from typing import Final

from prometheus_client import Counter, Gauge

SPOOL_BYTES: Final = Gauge(
    "footfall_api_spool_bytes",
    "Accepted events on this server's disk that wait for the log",
    multiprocess_mode="livesum",
)
LEFT_SPOOL_BYTES: Final = Gauge(
    "footfall_api_left_spool_bytes",
    "Accepted events in spools of this server that no process holds",
    multiprocess_mode="livemax",
)
DEAD_LETTERS: Final = Counter(
    "footfall_api_dead_letters",
    "Accepted events that the log refused; they are in dead-letters.jsonl of the spool",
)
