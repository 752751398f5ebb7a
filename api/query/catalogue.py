"""What merchants can ask for: metrics and dimensions, each defined once."""

from dataclasses import dataclass
from typing import Final, Literal

from db.saturation import saturated_sum
from events.countries import COUNTRIES

Group = Literal["event", "visitors", "session"]
Unit = Literal["count", "ratio", "seconds", "money"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as an expression over the columns of its group.

    Event metrics read `event, currency, events, orders, units, value_minor`; session metrics
    `sessions, bounces, duration_ms, page_views, sessions_with_cart, sessions_with_purchase`.
    `{currency}` stands for the parameter that holds the answer's currency.
    """

    name: str
    group: Group
    unit: Unit
    expression: str
    definition: str
    adds_up: bool = True


def _count(name: str, event: str, definition: str) -> Metric:
    expression = f"coalesce(sum(events) FILTER (WHERE event = '{event}'), 0)::int8"
    return Metric(name, "event", "count", expression, definition)


def _money(name: str, event: str, definition: str) -> Metric:
    expression = saturated_sum("value_minor", f"event = '{event}' AND currency = {{currency}}")
    return Metric(name, "event", "money", expression, definition)


def _session_ratio(name: str, over: str, definition: str, unit: Unit = "ratio") -> Metric:
    expression = f"({over})::float8 / nullif(sum(sessions), 0)::float8"
    return Metric(name, "session", unit, expression, definition, adds_up=False)


_ALL: Final = (
    Metric(
        "events", "event", "count", "coalesce(sum(events), 0)::int8", "All events, bots left out."
    ),
    _count("page_views", "page_view", "Events named page_view."),
    Metric(
        "visitors",
        "visitors",
        "count",
        "visitor_estimate(count(*), sum(1::float8 / (1::int8 << visitor_rank)))",
        "Distinct visitor ids of the range, by HyperLogLog with 4096 registers.",
        adds_up=False,
    ),
    Metric(
        "sessions",
        "session",
        "count",
        "coalesce(sum(sessions), 0)::int8",
        "Sessions, each counted once a UTC day, at its first event of that day.",
    ),
    _session_ratio("bounce_rate", "sum(bounces)", "Sessions of one page view alone / sessions."),
    _session_ratio(
        "visit_duration",
        "sum(duration_ms) / 1000.0",
        "Mean time from a session's first to its last event.",
        "seconds",
    ),
    _session_ratio("views_per_session", "sum(page_views)", "Page views / sessions."),
    _count("product_views", "view_item", "Events named view_item."),
    _count("add_to_carts", "add_to_cart", "Events named add_to_cart."),
    _count("checkouts", "begin_checkout", "Events named begin_checkout."),
    Metric(
        "orders",
        "event",
        "count",
        "coalesce(sum(orders), 0)::int8",
        "Purchases, the same order id once.",
    ),
    Metric(
        "units",
        "event",
        "count",
        saturated_sum("units"),
        "Quantities on purchases, summed.",
    ),
    _money("revenue", "purchase", "Values of purchases in one currency, before refunds."),
    _money("refunds", "refund", "Values of refunds, booked on the refund's own date."),
    Metric(
        "average_order_value",
        "event",
        "money",
        "sum(value_minor) FILTER (WHERE event = 'purchase' AND currency = {currency})::float8 / "
        "nullif(sum(orders) FILTER (WHERE event = 'purchase' AND currency = {currency}), 0)",
        "Revenue / orders.",
        adds_up=False,
    ),
    _session_ratio(
        "conversion_rate", "sum(sessions_with_purchase)", "Sessions with a purchase / sessions."
    ),
    Metric(
        "cart_abandonment_rate",
        "session",
        "ratio",
        "1 - sum(sessions_with_purchase)::float8 / nullif(sum(sessions_with_cart), 0)::float8",
        "1 - sessions with a purchase / sessions with an add_to_cart.",
        adds_up=False,
    ),
)

METRICS: Final = {metric.name: metric for metric in _ALL}

# The contract's name of a dimension -> the column that holds it.
DIMENSIONS: Final = {
    "event": "event",
    "page": "page",
    "product": "product_id",
    "source": "source",
    "channel": "channel",
    "campaign": "campaign",
    "country": "country",
    "device": "device",
    "browser": "browser",
    "os": "os",
}
SESSION_DIMENSIONS: Final = frozenset(
    {"source", "channel", "campaign", "country", "device", "browser", "os"}
)
INTERVALS: Final = ("minute", "hour", "day", "week", "month")

# The dimensions whose values are a closed set, NONE among them where an event may have none.
NONE: Final = "(none)"  # how an absent value is shown, so that it is a row like any other
VALUES: Final = {
    "country": (*sorted(COUNTRIES), NONE),
    "device": ("desktop", "mobile", "tablet", "tv", "bot", "unknown"),
    "channel": (
        "Paid Search", "Paid Social", "Paid Video", "Paid Shopping", "Paid Other", "Display",
        "Organic Search", "Organic Social", "Organic Video", "Organic Shopping", "Email",
        "Affiliates", "SMS", "Audio", "Push", "AI Assistants", "Referral", "Direct", "Unassigned",
    ),
}  # fmt: skip
