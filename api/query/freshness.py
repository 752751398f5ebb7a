"""How far the numbers of a merchant are true: every event logged up to that instant is in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from api.query.plan import Source

# Late batches that no refresh has yet taken in do not show in a rollup: its numbers are as old as
# the oldest of them. Raw rows show at once. One row, whatever the tables hold.
FRESH: Final = """
WITH refreshed AS (SELECT coalesce(min(refreshed_at), '-infinity') AS at FROM refresh_state),
     late AS (SELECT min(min_logged_at) AS logged_at FROM ingest_batch, refreshed
               WHERE kafka_partition = {partition} AND committed_at >= refreshed.at
                 AND min_ts < date_trunc('hour', refreshed.at, 'UTC'))
SELECT applied_until, halted_reason, late.logged_at AS late,
       (SELECT logic_version FROM ingest_batch WHERE kafka_partition = {partition}
         ORDER BY committed_at DESC LIMIT 1) AS logic_version
  FROM late LEFT JOIN ingest_offset ON kafka_partition = {partition} AND topic = {topic}
"""


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is known of the rows behind an answer."""

    as_of: datetime | None
    logic_version: int | None
    halted: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any], source: Source) -> Self:
        """From a row of `FRESH`, for answers from `source`."""
        as_of: datetime | None = row["applied_until"]
        if as_of is not None and row["late"] is not None and source != "raw":
            as_of = min(as_of, row["late"] - timedelta(milliseconds=1))
        return cls(as_of, row["logic_version"], row["halted_reason"])
