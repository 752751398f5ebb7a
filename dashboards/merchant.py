"""One merchant in depth, beside an earlier time."""

from typing import Final

from dashboards.choices import BEFORE, COMPARISON, DAYS, HOURS, MERCHANT, OF_MERCHANT, money
from dashboards.panels import Board, Panel


def _beside(measure: str, relation: str, where: str = "true") -> str:
    """A number of the range, and the same of the range before."""
    return f"""
SELECT (SELECT {measure} FROM {relation} WHERE {OF_MERCHANT} AND {where} AND {HOURS}) AS now,
       (SELECT {measure} FROM {relation} WHERE {OF_MERCHANT} AND {where} AND {BEFORE}) AS before"""


def _visitors(bounds: str) -> str:
    return f"""(
    SELECT visitor_estimate(count(*), sum(2.0 ^ -rank)) FROM (
      SELECT visitor_register, max(visitor_rank) AS rank FROM visitor_hourly
       WHERE {OF_MERCHANT} AND {bounds} GROUP BY 1) AS seen)"""


def _top(title: str, relation: str, column: str, where: str = "true") -> Panel:
    return Panel(
        title,
        "table",
        f"""
SELECT coalesce({column}, '(none)') AS {column}, sum(events)::int8 AS events,
       sum(orders)::int8 AS orders, sum(units)::int8 AS units
  FROM {relation} WHERE {OF_MERCHANT} AND {where} AND {DAYS}
 GROUP BY 1 ORDER BY events DESC LIMIT 50""",
    )


BOARD: Final = Board(
    uid="footfall-merchant",
    title="A merchant in depth",
    about="One shop. Visitors are estimated by HyperLogLog (standard error 1.63 %); the rest is "
    "exact. Each currency stands by itself.",
    variables=(MERCHANT, COMPARISON),
    panels=(
        Panel(
            "Visitors",
            "stat",
            f"SELECT {_visitors(HOURS)} AS now,\n       {_visitors(BEFORE)} AS before",
            width=6,
            height=4,
        ),
        Panel(
            "Page views",
            "stat",
            _beside("coalesce(sum(events), 0)::int8", "traffic_hourly", "event = 'page_view'"),
            width=6,
            height=4,
        ),
        Panel(
            "Orders",
            "stat",
            _beside("coalesce(sum(orders), 0)::int8", "traffic_hourly"),
            width=6,
            height=4,
        ),
        Panel(
            "Conversion rate",
            "stat",
            f"""
SELECT sum(sessions_with_purchase)::float8 / nullif(sum(sessions), 0) AS conversion_rate
  FROM session_summary_daily WHERE {OF_MERCHANT} AND {DAYS}""",
            unit="percentunit",
            width=6,
            height=4,
        ),
        Panel(
            "Events by name",
            "timeseries",
            f"""
SELECT bucket AS time, event AS metric, sum(events)::int8 AS value
  FROM traffic_hourly WHERE {OF_MERCHANT} AND {HOURS} GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        Panel(
            "Page views beside the earlier time",
            "timeseries",
            f"""
SELECT bucket AS time, 'now' AS metric, sum(events)::int8 AS value FROM traffic_hourly
 WHERE {OF_MERCHANT} AND event = 'page_view' AND {HOURS} GROUP BY 1
UNION ALL
SELECT bucket + INTERVAL '$comparison', '$comparison before', sum(events)::int8
  FROM traffic_hourly
 WHERE {OF_MERCHANT} AND event = 'page_view' AND {BEFORE} GROUP BY 1
 ORDER BY 1""",
        ),
        Panel(
            "Visitors a day",
            "timeseries",
            f"""
SELECT bucket AS time, visitor_estimate(count(*), sum(2.0 ^ -visitor_rank)) AS visitors
  FROM visitor_daily WHERE {OF_MERCHANT} AND {DAYS} GROUP BY 1 ORDER BY 1""",
        ),
        Panel(
            "Revenue a day",
            "timeseries",
            f"""
SELECT bucket AS time, currency AS metric, {money("sum(value_minor)")} AS value
  FROM traffic_daily
 WHERE {OF_MERCHANT} AND event = 'purchase' AND currency IS NOT NULL AND {DAYS}
 GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        _top("Pages", "page_daily", "page"),
        _top("Products", "product_daily", "product_id"),
        _top("Countries", "place_daily", "country"),
        _top("Devices", "device_daily", "device", "device <> 'bot'"),
    ),
)
