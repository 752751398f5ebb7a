"""How runs of reprocessing and verifications go: panels of the pipeline's board."""

from typing import Final

from dashboards.panels import Panel

_REPLACED: Final = "replaced_at BETWEEN $__timeFrom()::timestamptz AND $__timeTo()::timestamptz"
# The rate is of the last ten minutes, or since the run was begun: a run that stands still has none.
_RUNS: Final = """
SELECT CASE WHEN run.state = 'running' AND count(*) FILTER (WHERE slice.state = 'held') > 0
            THEN 'held back'
            WHEN run.state = 'running' AND greatest(run.started_at, max(slice.replaced_at),
                                                    max(slice.done_at))
                                           < now() - INTERVAL '15 minutes'
            THEN 'stands still' ELSE run.state END AS state,
       run.started_at, run.started_by, run.reason, run.window_start, run.window_end,
       run.merchant_id, min(slice.logic_before) AS logic_before, run.logic_version AS logic_after,
       count(*) FILTER (WHERE slice.state = 'done') AS done, count(*) AS slices,
       count(*) FILTER (WHERE slice.state = 'done')::float8 / count(*) AS share,
       count(*) FILTER (WHERE slice.state = 'replaced') AS rollups_to_follow,
       count(*) FILTER (WHERE slice.state = 'held') AS held,
       sum(slice.messages)::int8 AS messages, sum(slice.rows_after)::int8 AS rows,
       sum(slice.rows_changed)::int8 AS rows_replaced,
       CASE WHEN run.state = 'running' THEN sum(recent.messages) / min(recent.seconds) END AS rate,
       CASE WHEN run.state = 'running'
            THEN count(*) FILTER (WHERE slice.state IN ('pending', 'held'))
                 * min(recent.seconds) / nullif(count(recent.messages), 0) END AS time_left,
       run.ended_at, run.run_id::text AS run_id
  FROM reprocess_run AS run JOIN reprocess_slice AS slice USING (run_id),
       LATERAL (SELECT extract(epoch FROM least(now() - run.started_at, INTERVAL '10 minutes'))
                       ::float8 AS seconds,
                       CASE WHEN slice.replaced_at >= now() - INTERVAL '10 minutes'
                            THEN slice.messages END AS messages) AS recent
 GROUP BY run.run_id ORDER BY run.state = 'running' DESC, run.started_at DESC LIMIT 20"""

PANELS: Final = (
    Panel(
        "Runs of reprocessing",
        "table",
        _RUNS,
        width=24,
        about="History that is made again, of this shard: those that go on first. A run takes one "
        "shard after another. Done are slices whose rollups have followed their rows.",
        units=(("share", "percentunit"), ("rate", "cps"), ("time_left", "s")),
    ),
    Panel(
        "Runs that go on",
        "stat",
        "SELECT count(*) AS running FROM reprocess_run WHERE state = 'running'",
        width=6,
        height=4,
    ),
    Panel(
        "Slices held back",
        "stat",
        "SELECT count(*) AS held FROM reprocess_slice WHERE state = 'held'",
        width=6,
        height=4,
        limit=1,
        about="A sum would have changed by more than was allowed: an operator decides.",
    ),
    Panel(
        "Rows replaced",
        "timeseries",
        f"""
SELECT time_bucket('1 minute', replaced_at) AS time, sum(rows_changed)::int8 AS replaced,
       sum(rows_after)::int8 AS compared
  FROM reprocess_slice WHERE {_REPLACED} GROUP BY 1 ORDER BY 1""",
    ),
    Panel(
        "Why slices were held back",
        "table",
        """
SELECT kafka_partition, slice.window_start, slice.window_end, detail, started_by, reason
  FROM reprocess_slice AS slice JOIN reprocess_run USING (run_id)
 WHERE slice.state = 'held' ORDER BY slice.window_start, kafka_partition LIMIT 50""",
    ),
    Panel(
        "Verifications",
        "table",
        """
SELECT verified_at, window_start, window_end, merchant_id, kafka_partition, slices, messages,
       differences, repaired
  FROM verification ORDER BY verified_at DESC LIMIT 20""",
        about="Each look of `reprocess verify` at this shard. Differences are rows and rollup "
        "buckets that were not what the log says.",
    ),
    Panel(
        "Differences that nobody has mended",
        "timeseries",
        expr="max by (shard) (footfall_verify_differences)",
        legend="shard {{shard}}",
        limit=1,
    ),
)
