"""Whether what was logged is in the numbers, how soon, and how history is made again."""

from typing import Final

from dashboards import replay
from dashboards.panels import Board, Panel

PROMISE_S: Final = 3600.0
_COMMITTED: Final = "committed_at BETWEEN $__timeFrom()::timestamptz AND $__timeTo()::timestamptz"
_LOGGED: Final = "logged_at BETWEEN $__timeFrom()::timestamptz AND $__timeTo()::timestamptz"

BOARD: Final = Board(
    uid="footfall-pipeline",
    title="Pipeline health",
    about="Every number is at most an hour old: that is the promise. The ledger and the offsets "
    "tell it from the database's side, telemetry from the processes'.",
    since="now-6h",
    every="30s",
    panels=(
        Panel(
            "Behind",
            "stat",
            """
SELECT extract(epoch FROM now() - min(applied_until))::float8 AS seconds
  FROM ingest_offset WHERE moved_to IS NULL""",
            unit="s",
            width=6,
            height=4,
            limit=900,
            about="Up to this long ago everything that was logged is stored.",
        ),
        Panel(
            "Rollups behind",
            "stat",
            "SELECT extract(epoch FROM now() - min(refreshed_at))::float8 AS seconds "
            "FROM refresh_state",
            unit="s",
            width=6,
            height=4,
            limit=900,
        ),
        Panel(
            "Halted partitions",
            "stat",
            "SELECT count(*) AS halted FROM ingest_offset WHERE halted_reason IS NOT NULL",
            width=6,
            height=4,
            limit=1,
        ),
        Panel(
            "Rejects",
            "stat",
            f"SELECT count(*) AS rejects FROM rejected_event WHERE {_LOGGED}",
            width=6,
            height=4,
        ),
        Panel(
            "From log to table, the slowest of each minute",
            "timeseries",
            f"""
SELECT time_bucket('1 minute', committed_at) AS time,
       extract(epoch FROM max(committed_at - min_logged_at))::float8 AS seconds
  FROM ingest_batch WHERE {_COMMITTED} GROUP BY 1 ORDER BY 1""",
            unit="s",
            limit=PROMISE_S,
            about="The line is the promise of one hour.",
        ),
        Panel(
            "Messages a second",
            "timeseries",
            f"""
SELECT time_bucket('1 minute', committed_at) AS time, sum(messages)::float8 / 60 AS messages,
       sum(event_rows)::float8 / 60 AS events
  FROM ingest_batch WHERE {_COMMITTED} GROUP BY 1 ORDER BY 1""",
        ),
        Panel(
            "Rejects by reason",
            "timeseries",
            f"""
SELECT time_bucket('1 minute', logged_at) AS time, reason AS metric, count(*) AS value
  FROM rejected_event WHERE {_LOGGED} GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        Panel(
            "Who sends rejects",
            "table",
            f"""
SELECT merchant_id, reason, field, count(*) AS rejects, max(logged_at) AS newest
  FROM rejected_event WHERE {_LOGGED} GROUP BY 1, 2, 3 ORDER BY rejects DESC LIMIT 50""",
        ),
        Panel(
            "Partitions",
            "table",
            """
SELECT topic, kafka_partition, next_offset, applied_until,
       extract(epoch FROM now() - applied_until)::float8 AS behind, halted_reason
  FROM ingest_offset WHERE moved_to IS NULL ORDER BY applied_until, kafka_partition""",
            units=(("behind", "s"),),
        ),
        Panel(
            "Lag",
            "timeseries",
            expr="max by (partition) (footfall_ingest_lag_messages)",
            legend="partition {{partition}}",
        ),
        Panel(
            "A batch, from dispatch to commit",
            "timeseries",
            expr="histogram_quantile(0.99, sum by (shard, le) "
            "(rate(footfall_ingest_batch_seconds_bucket[5m])))",
            legend="p99, shard {{shard}}",
            unit="s",
        ),
        Panel(
            "Tried again, and fences lost",
            "timeseries",
            expr='sum by (__name__) (rate({__name__=~"footfall_ingest_retries_total|'
            'footfall_ingest_lost_fences_total"}[5m]))',
            legend="{{__name__}}",
        ),
        *replay.PANELS,
    ),
)
