"""Revenue, and how many came how far."""

from typing import Final

from dashboards.choices import DAYS, HOURS, MERCHANT, OF_MERCHANT, money
from dashboards.panels import Board, Panel

_MINE: Final = f"{OF_MERCHANT} AND {DAYS}"

BOARD: Final = Board(
    uid="footfall-revenue",
    title="Revenue and funnel",
    about="Revenue before refunds, refunds on their own day, and counts of each step. The steps "
    "are counted, not followed: ask the API's funnel for who went from one to the next.",
    variables=(MERCHANT,),
    panels=(
        Panel(
            "Revenue and refunds",
            "table",
            f"""
SELECT currency, {money("coalesce(sum(value_minor) FILTER (WHERE event = 'purchase'), 0)")}
         AS revenue,
       {money("coalesce(sum(value_minor) FILTER (WHERE event = 'refund'), 0)")} AS refunds,
       sum(orders)::int8 AS orders, sum(units)::int8 AS units,
       {money("sum(value_minor) FILTER (WHERE event = 'purchase')")} / nullif(sum(orders), 0)
         AS average_order_value
  FROM traffic_daily
 WHERE {_MINE} AND event IN ('purchase', 'refund') AND currency IS NOT NULL
 GROUP BY currency ORDER BY orders DESC""",
            height=6,
        ),
        Panel(
            "Sessions that came so far",
            "bargauge",
            f"""
SELECT step, steps.sessions FROM (
  SELECT sum(sessions) AS sessions, sum(sessions_with_cart) AS carts,
         sum(sessions_with_purchase) AS purchases
    FROM session_summary_daily WHERE {_MINE}) AS total,
  LATERAL (VALUES (1, 'all sessions', total.sessions::int8), (2, 'with a cart', carts::int8),
                  (3, 'with a purchase', purchases::int8)) AS steps (place, step, sessions)
 ORDER BY place""",
            height=6,
        ),
        Panel(
            "Revenue an hour",
            "timeseries",
            f"""
SELECT bucket AS time, currency AS metric, {money("sum(value_minor)")} AS value
  FROM traffic_hourly
 WHERE {OF_MERCHANT} AND event = 'purchase' AND currency IS NOT NULL AND {HOURS}
 GROUP BY 1, 2 ORDER BY 1, 2""",
        ),
        Panel(
            "Orders and units a day",
            "timeseries",
            f"""
SELECT bucket AS time, sum(orders)::int8 AS orders, sum(units)::int8 AS units
  FROM traffic_daily WHERE {_MINE} AND event = 'purchase' GROUP BY 1 ORDER BY 1""",
        ),
        Panel(
            "Steps, counted",
            "bargauge",
            f"""
SELECT event, sum(events)::int8 AS events FROM traffic_daily
 WHERE {_MINE}
   AND event IN ('page_view', 'view_item', 'add_to_cart', 'begin_checkout', 'purchase')
 GROUP BY event ORDER BY array_position(
   ARRAY['page_view', 'view_item', 'add_to_cart', 'begin_checkout', 'purchase'], event)""",
        ),
        Panel(
            "Products that sold",
            "table",
            f"""
SELECT product_id, currency, sum(units)::int8 AS units, sum(orders)::int8 AS orders,
       {money("sum(value_minor)")} AS revenue
  FROM product_daily WHERE {_MINE} AND event = 'purchase'
 GROUP BY 1, 2 ORDER BY revenue DESC NULLS LAST LIMIT 50""",
        ),
    ),
)
