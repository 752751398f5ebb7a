"""How a shard's tables, columnstore and policies do."""

from typing import Final

from dashboards.panels import Board, Panel

BOARD: Final = Board(
    uid="footfall-database",
    title="Database health",
    about="Chunks, what the columnstore saves, policies, and how far rollups are refreshed.",
    since="now-30d",
    every="5m",
    panels=(
        Panel(
            "Database",
            "stat",
            "SELECT pg_database_size(current_database()) AS bytes",
            unit="bytes",
            width=6,
            height=4,
        ),
        Panel(
            "Events a byte of columnstore stands for",
            "stat",
            """
SELECT sum(before_compression_total_bytes)::float8 / nullif(sum(after_compression_total_bytes), 0)
         AS ratio
  FROM hypertable_compression_stats('events')""",
            width=6,
            height=4,
            about="Bytes before over bytes after, of the chunks that are in the columnstore.",
        ),
        Panel(
            "Chunks",
            "stat",
            "SELECT count(*) AS chunks FROM timescaledb_information.chunks",
            width=6,
            height=4,
        ),
        Panel(
            "Policies whose last run failed",
            "stat",
            "SELECT count(*) AS failing FROM timescaledb_information.job_stats "
            "WHERE last_run_status = 'Failed'",
            width=6,
            height=4,
            limit=1,
        ),
        Panel(
            "Tables and rollups",
            "table",
            """
SELECT coalesce(view_name, chunks.hypertable_name) AS relation, count(*) AS chunks,
       count(*) FILTER (WHERE is_compressed) AS in_columnstore,
       min(range_start) AS oldest, max(range_end) AS newest
  FROM timescaledb_information.chunks
  LEFT JOIN timescaledb_information.continuous_aggregates
         ON chunks.hypertable_name = materialization_hypertable_name
 GROUP BY 1 ORDER BY chunks DESC""",
            height=10,
        ),
        Panel(
            "Sizes",
            "table",
            """
SELECT coalesce(view_name, hypertables.hypertable_name) AS relation,
       hypertable_size(format('%I.%I', hypertables.hypertable_schema,
                              hypertables.hypertable_name)::regclass) AS bytes
  FROM timescaledb_information.hypertables
  LEFT JOIN timescaledb_information.continuous_aggregates
         ON hypertables.hypertable_name = materialization_hypertable_name
 ORDER BY bytes DESC NULLS LAST""",
            height=10,
            units=(("bytes", "bytes"),),
        ),
        Panel(
            "Policies",
            "table",
            """
SELECT job_id, jobs.proc_name AS policy,
       coalesce(view_name, jobs.hypertable_name, application_name) AS relation,
       last_run_status, nullif(last_run_started_at, '-infinity') AS last_run_started_at,
       last_run_duration::text AS last_run_duration, total_runs, total_failures,
       nullif(jobs.next_start, '-infinity') AS next_start
  FROM timescaledb_information.jobs
  LEFT JOIN timescaledb_information.job_stats USING (job_id)
  LEFT JOIN timescaledb_information.continuous_aggregates
         ON jobs.hypertable_name = materialization_hypertable_name
 ORDER BY last_run_status NULLS LAST, total_failures DESC NULLS LAST, job_id""",
            height=10,
        ),
        Panel(
            "Rollups behind",
            "bargauge",
            """
SELECT rollup, extract(epoch FROM now() - refreshed_at)::float8 AS seconds
  FROM refresh_state ORDER BY seconds DESC""",
            unit="s",
            height=10,
            limit=900,
        ),
        Panel(
            "Database over time",
            "timeseries",
            expr="max by (shard) (footfall_shard_database_bytes)",
            legend="shard {{shard}}",
            unit="bytes",
        ),
    ),
)
