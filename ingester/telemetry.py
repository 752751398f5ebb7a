"""How we watch the ingester: names and meanings of its telemetry, once."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter("footfall_ingest_events", "Events stored", ["shard"])
REJECTS: Final = Counter("footfall_ingest_rejects", "Events rejected", ["reason"])
DUPLICATES: Final = Counter("footfall_ingest_duplicates", "Client retries not counted", ["shard"])
BATCH_SECONDS: Final = Histogram(
    "footfall_ingest_batch_seconds", "From a batch's dispatch to its commit", ["shard"]
)
LOST_FENCES: Final = Counter("footfall_ingest_lost_fences", "Spans another process had moved")
RETRIES: Final = Counter("footfall_ingest_retries", "Transactions tried again", ["shard"])
GAPS: Final = Counter("footfall_ingest_transform_gaps", "Rows that the database refused")
LAG: Final = Gauge(
    "footfall_ingest_lag_messages", "Messages of the log not yet in a batch", ["partition"]
)
FRESH: Final = Gauge(
    "footfall_ingest_applied_until_seconds", "Log time up to which all is stored", ["shard"]
)
HALTED: Final = Gauge("footfall_ingest_halted", "1 where a partition is not read", ["partition"])
