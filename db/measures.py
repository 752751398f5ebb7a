"""What an operator watches while history is replaced: a few sums of a day, before and after."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from db.pools import Connection

# Money is summed in minor units, a measure a currency. Bots are a measure of their own.
_OF: Final = """
SELECT merchant_id, day, measure, sum(value)::int8 AS value
  FROM (SELECT merchant_id, (ts AT TIME ZONE 'UTC')::date AS day, currency,
               count(*) FILTER (WHERE NOT is_bot) AS events,
               count(*) FILTER (WHERE is_bot) AS bots,
               count(*) FILTER (WHERE event = 'page_view' AND NOT is_bot) AS page_views,
               count(*) FILTER (WHERE event = 'purchase' AND counted AND NOT is_bot) AS orders,
               sum(units) FILTER (WHERE event = 'purchase' AND counted AND NOT is_bot) AS units,
               sum(value_minor) FILTER (WHERE event = 'purchase' AND counted AND NOT is_bot)
                   AS revenue,
               sum(value_minor) FILTER (WHERE event = 'refund' AND NOT is_bot) AS refunds
          FROM {table} GROUP BY 1, 2, 3) AS sums,
       LATERAL (VALUES ('events', events), ('bots', bots), ('page_views', page_views),
                       ('orders', orders), ('units', units), ('revenue ' || currency, revenue),
                       ('refunds ' || currency, refunds)) AS measures (measure, value)
 WHERE measure IS NOT NULL AND value <> 0 GROUP BY 1, 2, 3
"""
BESIDE: Final = f"""
SELECT merchant_id, day, measure, coalesce(o.value, 0) AS before, coalesce(n.value, 0) AS after
  FROM ({_OF.format(table="old_events")}) AS o
  FULL JOIN ({_OF.format(table="new_events")}) AS n USING (merchant_id, day, measure)
"""
_BY_DAY: Final = """
SELECT day, measure, sum(before)::int8 AS before, sum(after)::int8 AS after
  FROM beside GROUP BY 1, 2 ORDER BY 1, 2
"""
_TELL: Final = f"WITH beside AS ({BESIDE}) {_BY_DAY}"
_NOTE: Final = f"""
WITH beside AS MATERIALIZED ({BESIDE}),
noted AS (
INSERT INTO reprocess_change AS held (run_id, kafka_partition, window_start, merchant_id, day,
       measure, before, after)
SELECT $1::uuid, $2::int4, $3::timestamptz, merchant_id, day, measure, before, after
  FROM beside WHERE before <> after
    ON CONFLICT (run_id, kafka_partition, window_start, merchant_id, day, measure)
    DO UPDATE SET before = held.before + excluded.before, after = held.after + excluded.after)
{_BY_DAY}
"""


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


async def beside(connection: Connection) -> list[Sum]:
    """The measures of the rows laid out, old beside new."""
    return [Sum(*row) for row in await connection.fetch(_TELL)]


async def note_changes(
    connection: Connection, run_id: str, partition: int, window_start: object
) -> list[Sum]:
    """The same, and what changed for each merchant is kept: the history of a number."""
    noted = await connection.fetch(_NOTE, run_id, partition, window_start)
    return [Sum(*row) for row in noted]
