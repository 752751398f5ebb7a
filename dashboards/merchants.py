"""All merchants of a shard."""

from typing import Final

from dashboards.choices import DAYS, HOURS, money
from dashboards.panels import Board, Panel

_ORDERS: Final = "sum(events) FILTER (WHERE event = 'purchase')"

BOARD: Final = Board(
    uid="footfall-merchants",
    title="Merchants",
    about="What happens in the shops of one shard. Bots are left out; days are UTC days.",
    panels=(
        Panel(
            "Merchants with events",
            "stat",
            f"SELECT count(DISTINCT merchant_id) AS merchants FROM traffic_daily WHERE {DAYS}",
            width=6,
            height=4,
        ),
        Panel(
            "Events",
            "stat",
            f"SELECT sum(events)::int8 AS events FROM traffic_daily WHERE {DAYS}",
            width=6,
            height=4,
        ),
        Panel(
            "Orders",
            "stat",
            f"SELECT sum(orders)::int8 AS orders FROM traffic_daily WHERE {DAYS}",
            width=6,
            height=4,
        ),
        Panel(
            "Sessions",
            "stat",
            f"SELECT sum(sessions)::int8 AS sessions FROM session_summary_daily WHERE {DAYS}",
            width=6,
            height=4,
        ),
        Panel(
            "Events by name",
            "timeseries",
            f"""
SELECT bucket AS time, event AS metric, sum(events)::int8 AS value
  FROM traffic_hourly WHERE {HOURS} GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        Panel(
            "Orders an hour",
            "timeseries",
            f"""
SELECT bucket AS time, sum(orders)::int8 AS orders
  FROM traffic_hourly WHERE {HOURS} GROUP BY 1 ORDER BY 1""",
        ),
        Panel(
            "The busiest merchants",
            "table",
            f"""
SELECT merchant_id, sum(events)::int8 AS events,
       (sum(events) FILTER (WHERE event = 'page_view'))::int8 AS page_views,
       sum(orders)::int8 AS orders, sum(units)::int8 AS units
  FROM traffic_daily WHERE {DAYS}
 GROUP BY merchant_id ORDER BY events DESC LIMIT 50""",
            height=10,
        ),
        Panel(
            "The highest revenue",
            "table",
            f"""
SELECT merchant_id, currency, {money("sum(value_minor)")} AS revenue, sum(orders)::int8 AS orders
  FROM traffic_daily WHERE {DAYS} AND event = 'purchase' AND currency IS NOT NULL
 GROUP BY merchant_id, currency ORDER BY revenue DESC LIMIT 50""",
            height=10,
            about="Each currency by itself: no rates are applied.",
        ),
        Panel(
            "Countries",
            "bargauge",
            f"""
SELECT coalesce(country, 'unknown') AS country, sum(events)::int8 AS events
  FROM place_daily WHERE {DAYS} GROUP BY 1 ORDER BY events DESC LIMIT 15""",
        ),
        Panel(
            "Devices, bots too",
            "bargauge",
            f"""
SELECT device, sum(events)::int8 AS events
  FROM device_daily WHERE {DAYS} GROUP BY 1 ORDER BY events DESC""",
        ),
    ),
)
