"""Answers computed from raw rows in plain Python, one row at a time, sharing nothing with the API.

Rows are those of `events` and `event_items` as dicts; a question is its JSON body.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
Key = tuple[Any, ...]
COLUMNS = {"product": "product_id"}
SESSION_METRICS = {
    "sessions", "bounce_rate", "visit_duration", "views_per_session", "conversion_rate",
    "cart_abandonment_rate",
}  # fmt: skip


@dataclass(slots=True)
class Session:
    """A session's events of one UTC day."""

    events: list[Row]

    @property
    def first(self) -> Row:
        """Where it began."""
        return min(self.events, key=lambda e: e["ts"])

    def has(self, name: str) -> bool:
        """Whether it holds such an event."""
        return any(event["event"] == name for event in self.events)

    @property
    def views(self) -> int:
        """Its page views."""
        return sum(event["event"] == "page_view" for event in self.events)

    @property
    def bounced(self) -> bool:
        """One page view and nothing else."""
        return self.views == 1 and len(self.events) == 1

    @property
    def seconds(self) -> float:
        """From its first event to its last."""
        long: timedelta = max(e["ts"] for e in self.events) - self.first["ts"]
        return long.total_seconds()


def answers(
    events: list[Row], items: list[Row], asked: dict[str, Any]
) -> dict[Key, dict[str, Any]]:
    """The metrics of every key of a question's dimensions that has any rows.

    `date_range` holds two instants. The first of a key is its bucket, where time is asked for.
    """
    zone = ZoneInfo(asked["timezone"])
    start, end = (datetime.fromisoformat(text) for text in asked["date_range"])
    used = named(asked["filters"]) | set(asked["dimensions"])
    bots = asks_for_bots(asked["filters"])
    rows = items if "product" in used else events
    inside = [row for row in rows if start <= row["ts"] < end and (bots or not row["is_bot"])]
    chosen = [row for row in inside if all(holds(f, row) for f in asked["filters"])]
    found: dict[Key, dict[str, Any]] = defaultdict(dict)
    event_metrics = [name for name in asked["metrics"] if name not in SESSION_METRICS]
    if event_metrics:
        for key, of in grouped(chosen, lambda row: key_of(row, row["ts"], asked, zone)).items():
            for name in event_metrics:
                found[key][name] = event_metric(name, of, asked["currency"], "product" in used)
    session_metrics = [name for name in asked["metrics"] if name in SESSION_METRICS]
    if session_metrics:
        sessions = [
            session
            for session in sessions_of([e for e in events if bots or not e["is_bot"]])
            if start <= session.first["ts"] < end
            and all(holds(f, session.first) for f in asked["filters"])
        ]
        by_key = grouped(sessions, lambda s: key_of(s.first, s.first["ts"], asked, zone))
        for key, of_sessions in by_key.items():
            for name in session_metrics:
                found[key][name] = session_metric(name, of_sessions)
    return found


def grouped(rows: Iterable[Any], key: Callable[[Any], Key]) -> dict[Key, list[Any]]:
    """Rows by key."""
    found: dict[Key, list[Any]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def key_of(row: Row, at: datetime, asked: dict[str, Any], zone: ZoneInfo) -> Key:
    """The bucket and the dimensions of a row."""
    key: list[Any] = []
    for dimension in asked["dimensions"]:
        if dimension.startswith("time:"):
            key.append(bucket(at.astimezone(zone), dimension.removeprefix("time:")))
        else:
            key.append(value_of(row, dimension))
    return tuple(key)


def bucket(local: datetime, interval: str) -> Any:
    """What tells a local bucket from all others."""
    day = local.date()
    match interval:
        case "minute":
            return day, local.hour, local.minute, local.utcoffset()
        case "hour":
            return day, local.hour, local.utcoffset()
        case "day":
            return day
        case "week":
            return date.fromisocalendar(*day.isocalendar()[:2], 1)
    return day.replace(day=1)


def sessions_of(events: list[Row]) -> list[Session]:
    """Sessions by UTC day."""
    with_one = [event for event in events if event["session"] is not None]
    days = grouped(with_one, lambda e: (e["session"], e["ts"].astimezone(UTC).date()))
    return [Session(of) for of in days.values()]


def value_of(row: Row, dimension: str) -> str:
    """A dimension's value as answers show it."""
    value = row.get(COLUMNS.get(dimension, dimension))
    return "(none)" if value is None else value


def holds(given: Any, row: Row) -> bool:
    """Whether a filter lets a row through."""
    match given:
        case ["and", parts]:
            return all(holds(part, row) for part in parts)
        case ["or", parts]:
            return any(holds(part, row) for part in parts)
        case ["not", part]:
            return not holds(part, row)
    operator, dimension, values = given
    value = value_of(row, dimension)
    match operator:
        case "is":
            return value in values
        case "is_not":
            return value not in values
        case "contains":
            return any(part.lower() in value.lower() for part in values)
        case "contains_not":
            return not any(part.lower() in value.lower() for part in values)
    return any(value.startswith(part) for part in values)


def conditions(given: Any) -> list[Any]:
    """All conditions within a filter."""
    match given:
        case ["and" | "or", parts]:
            return [each for part in parts for each in conditions(part)]
        case ["not", part]:
            return conditions(part)
    return [given]


def named(filters: list[Any]) -> set[str]:
    """The dimensions that filters name."""
    return {each[1] for given in filters for each in conditions(given)}


def asks_for_bots(filters: list[Any]) -> bool:
    """Whether bots are asked for by name."""
    every = [each for given in filters for each in conditions(given)]
    return any(each[0] == "is" and each[1] == "device" and "bot" in each[2] for each in every)


def event_metric(name: str, rows: list[Row], currency: str, of_items: bool) -> Any:
    """A metric of events, or of their items; money in minor units."""
    bought = [row for row in rows if row["event"] == "purchase" and row["counted"]]

    def money(of: Iterable[Row]) -> int:
        counted = [row for row in of if row["counted"] and row["currency"] == currency]
        if of_items:
            return sum((row["price_minor"] or 0) * row["quantity"] for row in counted)
        return sum(row["value_minor"] or 0 for row in counted)

    match name:
        case "events":
            return len(rows)
        case "visitors":
            return len({row["visitor"] for row in rows})
        case "orders":
            return len(bought)
        case "units":
            return sum(row["quantity" if of_items else "units"] for row in bought)
        case "revenue":
            return money(row for row in rows if row["event"] == "purchase")
        case "refunds":
            return money(row for row in rows if row["event"] == "refund")
        case "average_order_value":
            paid = [row for row in bought if row["currency"] == currency]
            return Decimal(money(paid)) / len(paid) if paid else None
    event = {
        "page_views": "page_view",
        "product_views": "view_item",
        "add_to_carts": "add_to_cart",
        "checkouts": "begin_checkout",
    }[name]
    return sum(row["event"] == event for row in rows)


def session_metric(name: str, sessions: list[Session]) -> Any:
    """A metric of sessions."""
    bought = sum(session.has("purchase") for session in sessions)
    match name:
        case "sessions":
            return len(sessions)
        case "bounce_rate":
            return sum(session.bounced for session in sessions) / len(sessions)
        case "visit_duration":
            return sum(session.seconds for session in sessions) / len(sessions)
        case "views_per_session":
            return sum(session.views for session in sessions) / len(sessions)
        case "conversion_rate":
            return bought / len(sessions)
    carts = sum(session.has("add_to_cart") for session in sessions)
    return 1 - bought / carts if carts else None


def clock_changes(zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The hours of a range in which a zone's clock changes, UTC."""
    place = ZoneInfo(zone)
    hours = int((end - start) / timedelta(hours=1))
    times = [start + timedelta(hours=n) for n in range(hours)]
    return [
        a for a in times
        if a.astimezone(place).utcoffset() != (a + timedelta(hours=1)).astimezone(place).utcoffset()
    ]  # fmt: skip
