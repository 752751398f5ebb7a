"""Where visits come from."""

from typing import Final

from dashboards.choices import DAYS, HOURS, MERCHANT, OF_MERCHANT
from dashboards.panels import Board, Panel

_MINE: Final = f"{OF_MERCHANT} AND {DAYS}"

BOARD: Final = Board(
    uid="footfall-sources",
    title="Traffic sources",
    about="By channel, source and campaign. Sessions are those of their first event.",
    variables=(MERCHANT,),
    panels=(
        Panel(
            "Events by channel",
            "timeseries",
            f"""
SELECT bucket AS time, channel AS metric, sum(events)::int8 AS value
  FROM source_hourly WHERE {OF_MERCHANT} AND {HOURS} GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        Panel(
            "Sessions a day by channel",
            "timeseries",
            f"""
SELECT bucket AS time, channel AS metric, sum(sessions)::int8 AS value
  FROM session_summary_daily WHERE {_MINE} GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        Panel(
            "Channels",
            "table",
            f"""
SELECT channel, sum(sessions)::int8 AS sessions,
       sum(bounces)::float8 / nullif(sum(sessions), 0) AS bounce_rate,
       sum(sessions_with_purchase)::float8 / nullif(sum(sessions), 0) AS conversion_rate
  FROM session_summary_daily WHERE {_MINE} GROUP BY 1 ORDER BY sessions DESC""",
            units=(("bounce_rate", "percentunit"), ("conversion_rate", "percentunit")),
        ),
        Panel(
            "Sources",
            "table",
            f"""
SELECT source, channel, sum(events)::int8 AS events, sum(orders)::int8 AS orders
  FROM source_daily WHERE {_MINE} GROUP BY 1, 2 ORDER BY events DESC LIMIT 50""",
        ),
        Panel(
            "Campaigns",
            "table",
            f"""
SELECT campaign, source, sum(sessions)::int8 AS sessions,
       sum(sessions_with_purchase)::int8 AS sessions_with_purchase
  FROM session_summary_daily WHERE {_MINE} AND campaign IS NOT NULL
 GROUP BY 1, 2 ORDER BY sessions DESC LIMIT 50""",
        ),
        Panel(
            "Events without a source",
            "stat",
            f"""
SELECT sum(events) FILTER (WHERE source = 'direct')::float8 / nullif(sum(events), 0) AS direct
  FROM source_daily WHERE {_MINE}""",
            unit="percentunit",
        ),
    ),
)
