"""How far the numbers of a merchant are true: every event logged up to that instant is in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

# Late batches that no refresh has yet taken in do not show in a rollup: its numbers are as old as
# the oldest of them, in a day that is queued or in a batch that is not noted yet. Only the rollups
# that answer count, and only days of the range; raw rows show at once, and so does what lies beyond
# a rollup's watermark. One row, whatever the tables hold. The logic is the oldest by which any day
# of the range was made. The first three parameters of every statement are the merchant and the
# range.
FRESH: Final = """
WITH noted AS (SELECT coalesce(min(noted_at), '-infinity') AS at FROM refresh_state
                WHERE rollup = ANY ({rollups})),
     queued AS (SELECT min(logged_at) AS logged_at, min(failed_at) AS failing_since
                  FROM refresh_day JOIN refresh_state USING (rollup)
                 WHERE rollup = ANY ({rollups}) AND day < watermark
                   AND day > {since} - INTERVAL '1 day' AND day < $3::timestamptz
                   AND {partition} = ANY (kafka_partitions)),
     late AS (SELECT min(min_logged_at) AS logged_at FROM ingest_batch, noted
               WHERE kafka_partition = {partition} AND committed_at >= noted.at
                 AND min_ts < date_trunc('hour', noted.at, 'UTC'))
SELECT applied_until, halted_reason, moved_to, next_offset IS NULL AS unread,
       least(late.logged_at, queued.logged_at) AS late, queued.failing_since,
       {replacing} AS replacing,
       (SELECT min(greatest(made.logic_version, own.logic_version))
          FROM processed_day AS made
          LEFT JOIN reprocess_run AS own ON own.merchant_id = $1::int8 AND own.state = 'done'
               AND own.window_start <= made.day::timestamp AT TIME ZONE 'UTC'
               AND own.window_end >= (made.day + 1)::timestamp AT TIME ZONE 'UTC'
         WHERE made.kafka_partition = {partition}
           AND made.day >= ($2::timestamptz AT TIME ZONE 'UTC')::date
           AND made.day <= ($3::timestamptz AT TIME ZONE 'UTC')::date) AS logic_version,
       (SELECT max(slice.replaced_at)
          FROM reprocess_slice AS slice JOIN reprocess_run AS run USING (run_id)
         WHERE slice.kafka_partition = {partition} AND slice.state IN ('replaced', 'done')
           AND slice.window_start < $3::timestamptz AND slice.window_end > $2::timestamptz
           AND (run.merchant_id IS NULL OR run.merchant_id = $1::int8)) AS last_reprocessed_at
  FROM late CROSS JOIN queued
       LEFT JOIN ingest_offset ON kafka_partition = {partition} AND topic = {topic}
"""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is known of the rows behind an answer."""

    as_of: datetime | None
    logic_version: int | None
    halted: str | None
    last_reprocessed_at: datetime | None
    failing_since: datetime | None  # a rollup of the answer cannot take in late events of the range

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row of `FRESH`."""
        as_of: datetime | None = row["applied_until"]
        if as_of is not None and row["late"] is not None:
            as_of = min(as_of, row["late"] - timedelta(milliseconds=1))
        reprocessed = row["last_reprocessed_at"]
        return cls(
            as_of, row["logic_version"], row["halted_reason"], reprocessed, row["failing_since"]
        )
