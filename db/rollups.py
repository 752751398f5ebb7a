"""The rollup catalogue: migrations, planner, refresh and verification all read it.

Hourly rollups are continuous aggregates over raw rows, daily ones over the hourly. Every bucket
is a plain UTC bucket; time zones are applied when a question is asked. Additive rollups share one
set of measures, so that the planner treats them alike and only their dimensions differ.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from db.saturation import LINE_MINOR, saturated_sum

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)

Family = Literal["additive", "product", "visitors", "session", "session_summary"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One aggregated column: how the finest rollup makes it, and how a coarser one merges it."""

    name: str
    expression: str
    merge: str


@dataclass(frozen=True, slots=True)
class Rollup:
    """A continuous aggregate. `source` is the table or rollup that it reads."""

    name: str
    source: str
    time_column: str
    bucket: timedelta
    dimensions: tuple[str, ...]  # group columns beside bucket and merchant_id
    measures: tuple[Measure, ...]
    family: Family
    where: str | None = None
    # group columns that are computed: column name -> expression over the source
    computed: tuple[tuple[str, str], ...] = ()
    real_time: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns in order: bucket, merchant_id, dimensions, measures."""
        return ("bucket", "merchant_id", *self.dimensions, *(m.name for m in self.measures))


PURCHASED: Final = "event = 'purchase' AND counted"


def _additive(units: str, value_minor: str) -> tuple[Measure, ...]:
    """The measures that all additive rollups share. What a row adds is at most 1 to the counts, so
    that only the sums of columns can exceed int8: those saturate."""
    return (
        Measure("events", "count(*)", "sum(events)::int8"),
        Measure("orders", f"count(*) FILTER (WHERE {PURCHASED})", "sum(orders)::int8"),
        Measure("units", saturated_sum(units, PURCHASED), saturated_sum("units")),
        Measure("value_minor", saturated_sum(value_minor, "counted"), saturated_sum("value_minor")),
    )


EVENT_MEASURES: Final = _additive("units", "value_minor")
PRODUCT_MEASURES: Final = _additive("quantity", LINE_MINOR)

REGISTER_MEASURES: Final = (Measure("visitor_rank", "max(visitor_rank)", "max(visitor_rank)"),)

# One row a session and UTC day. `started` places the session in time, in any zone.
SESSION_MEASURES: Final = (
    Measure("started", "min(ts)", ""),
    Measure("ended", "max(ts)", ""),
    Measure("events", "count(*)", ""),
    Measure("page_views", "count(*) FILTER (WHERE event = 'page_view')", ""),
    Measure("carts", "count(*) FILTER (WHERE event = 'add_to_cart')", ""),
    Measure("checkouts", "count(*) FILTER (WHERE event = 'begin_checkout')", ""),
    Measure("purchases", "count(*) FILTER (WHERE event = 'purchase')", ""),
    Measure("source", "first(source, ts)", ""),
    Measure("channel", "first(channel, ts)", ""),
    Measure("campaign", "first(campaign, ts)", ""),
    Measure("country", "first(country, ts)", ""),
    Measure("device", "first(device, ts)", ""),
    Measure("browser", "first(browser, ts)", ""),
    Measure("os", "first(os, ts)", ""),
)

BOUNCED: Final = "page_views = 1 AND events = 1"

SESSION_SUMMARY_MEASURES: Final = (
    Measure("sessions", "count(*)", "sum(sessions)::int8"),
    Measure("bounces", f"count(*) FILTER (WHERE {BOUNCED})", "sum(bounces)::int8"),
    Measure(
        "duration_ms",
        "coalesce(sum(extract(epoch FROM ended - started) * 1000), 0)::int8",
        "sum(duration_ms)::int8",
    ),
    Measure("page_views", "sum(page_views)::int8", "sum(page_views)::int8"),
    Measure(
        "sessions_with_cart", "count(*) FILTER (WHERE carts > 0)", "sum(sessions_with_cart)::int8"
    ),
    Measure(
        "sessions_with_purchase",
        "count(*) FILTER (WHERE purchases > 0)",
        "sum(sessions_with_purchase)::int8",
    ),
)

NO_BOTS: Final = "NOT is_bot"


def _pair(
    name: str,
    dimensions: tuple[str, ...],
    *,
    source: str = "events",
    measures: tuple[Measure, ...] = EVENT_MEASURES,
    family: Family = "additive",
    where: str | None = NO_BOTS,
) -> tuple[Rollup, Rollup]:
    hourly = Rollup(f"{name}_hourly", source, "ts", HOUR, dimensions, measures, family, where)
    merged = tuple(Measure(m.name, m.merge, m.merge) for m in measures)
    daily = Rollup(f"{name}_daily", hourly.name, "bucket", DAY, dimensions, merged, family)
    return hourly, daily


# In the order in which they must be refreshed: what a rollup reads stands before it.
ROLLUPS: Final[tuple[Rollup, ...]] = (
    *_pair("traffic", ("event", "currency")),
    *_pair("source", ("source", "channel", "campaign", "event", "currency")),
    *_pair("place", ("country", "event", "currency")),
    # the one rollup that keeps bots, as device = 'bot'
    *_pair("device", ("device", "browser", "os", "event", "currency"), where=None),
    *_pair("page", ("page", "event", "currency")),
    *_pair(
        "product",
        ("product_id", "event", "currency"),
        source="event_items",
        measures=PRODUCT_MEASURES,
        family="product",
    ),
    *_pair("visitor", ("visitor_register",), measures=REGISTER_MEASURES, family="visitors"),
    Rollup(
        "session_daily",
        "events",
        "ts",
        DAY,
        ("session",),
        SESSION_MEASURES,
        "session",
        where=f"session IS NOT NULL AND {NO_BOTS}",
    ),
    Rollup(
        "session_summary_daily",
        "session_daily",
        "bucket",
        DAY,
        ("started_quarter", "source", "channel", "campaign", "country", "device"),
        SESSION_SUMMARY_MEASURES,
        "session_summary",
        # a quarter of an hour: every zone's offset is a multiple of it
        computed=(("started_quarter", "date_bin('15 minutes', started, 'epoch'::timestamptz)"),),
    ),
)

BY_NAME: Final = {rollup.name: rollup for rollup in ROLLUPS}
