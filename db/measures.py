"""What an operator watches while history is replaced: a few sums of a day, before and after."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import polars as pl

from db.pools import Connection
from db.saturation import INT8_MAX, saturated

_KEEP: Final = f"""
INSERT INTO reprocess_change AS held (run_id, kafka_partition, window_start, merchant_id, day,
       measure, before, after)
SELECT $1, $2, $3, merchant_id, day, measure, before, after
  FROM unnest($4::int8[], $5::date[], $6::text[], $7::int8[], $8::int8[])
       AS change (merchant_id, day, measure, before, after)
    ON CONFLICT (run_id, kafka_partition, window_start, merchant_id, day, measure)
    DO UPDATE SET before = least(held.before::numeric + excluded.before, {INT8_MAX})::int8,
                  after = least(held.after::numeric + excluded.after, {INT8_MAX})::int8
"""  # noqa: S608 - a number of ours
CHANGE: Final = ("merchant_id", "day", "measure", "before", "after")


@dataclass(frozen=True, slots=True)
class Sum:
    """One measure of one UTC day over all merchants that were replaced."""

    day: date
    measure: str
    before: int
    after: int

    @property
    def change(self) -> float:
        """The change as a share of what was before; infinite where there was nothing."""
        if self.before == self.after:
            return 0.0
        return abs(self.after - self.before) / self.before if self.before else float("inf")


def added(some: Iterable[Sum], more: Iterable[Sum]) -> list[Sum]:
    """Sums of two sets of messages as those of both, in order of day and measure."""
    found: dict[tuple[date, str], Sum] = {}
    for each in (*some, *more):
        had = found.get((each.day, each.measure), Sum(each.day, each.measure, 0, 0))
        before, after = saturated(had.before + each.before), saturated(had.after + each.after)
        found[each.day, each.measure] = Sum(each.day, each.measure, before, after)
    return [found[key] for key in sorted(found)]


async def keep_changes(
    connection: Connection,
    run_id: str,
    partition: int,
    window_start: datetime,
    changes: pl.DataFrame,
) -> None:
    """Keep what a slice changed for each merchant: the history of a number.

    Args:
        changes: the columns of CHANGE, a row for each sum that is another now.
    """
    if changes.is_empty():
        return
    columns = (changes.get_column(name).to_list() for name in CHANGE)
    await connection.execute(_KEEP, run_id, partition, window_start, *columns)
