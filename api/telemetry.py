"""How we watch the API beside what Litestar counts of its requests."""

from typing import Final

from prometheus_client import Gauge

SPOOL_BYTES: Final = Gauge(
    "footfall_api_spool_bytes", "Accepted events on this worker's disk that wait for the log"
)
