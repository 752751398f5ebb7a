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
    "footfall_ingest_lag_messages",
    "From where the shard stands to the log's end, in offsets",
    ["partition"],
)
STALLED: Final = Gauge(
    "footfall_ingest_stalled_seconds",
    "For how long a shard's batches have been neither stored nor refused",
    ["shard"],
)
POLLED: Final = Gauge(
    "footfall_ingest_polled_timestamp_seconds", "When the log was last asked for messages"
)

# What the databases say of themselves. Each ingester tells it of every shard: take the maximum,
# and the answer does not depend on which process still runs.
SHARD_UP: Final = Gauge("footfall_shard_up", "1 where the shard answers", ["shard"])
SHARD_APPLIED: Final = Gauge(
    "footfall_shard_applied_until_seconds",
    "Log time up to which every partition of the shard is stored",
    ["shard"],
)
SHARD_HALTED: Final = Gauge(
    "footfall_shard_halted_partitions", "Partitions that are not read", ["shard"]
)
SHARD_FAILING_JOBS: Final = Gauge(
    "footfall_shard_failing_jobs", "Policies whose last run failed", ["shard"]
)
SHARD_REFRESHED: Final = Gauge(
    "footfall_shard_refreshed_until_seconds",
    "Instant up to which committed batches can be seen in every rollup that is not failing",
    ["shard"],
)
SHARD_FAILING_ROLLUPS: Final = Gauge(
    "footfall_shard_failing_rollups", "Rollups of which a day cannot be refreshed", ["shard"]
)
SHARD_REFRESH_QUEUE: Final = Gauge(
    "footfall_shard_refresh_queue_days", "Days that rollups have yet to refresh", ["shard"]
)
SHARD_BYTES: Final = Gauge("footfall_shard_database_bytes", "Size of the database", ["shard"])
VERIFY_DIFFERENCES: Final = Gauge(
    "footfall_verify_differences",
    "Rows and rollup buckets that `reprocess verify` found wrong and that nobody has mended",
    ["shard"],
)
VERIFY_UNTIL: Final = Gauge(
    "footfall_verify_until_timestamp_seconds",
    "Event time up to which every partition of the shard was verified; of one that never was, the "
    "time of its first batch",
    ["shard"],
)
