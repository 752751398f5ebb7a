"""Questions that nobody thought of: whatever the schema allows, the answer is the brute-force one.

Events stand thick around the hours in which clocks change, in zones that change them in every way:
by an hour, by half an hour, at midnight, never; at offsets of :30 and :45.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from tests import brute
from tests.processes import wait_until
from tests.service import FIREFOX, Service

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
FIRST = NOW - timedelta(days=355)
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham",
    "Australia/Lord_Howe", "Atlantic/Azores", "America/Havana", "Asia/Kolkata", "America/St_Johns",
]  # fmt: skip
CHANGES = {zone: brute.clock_changes(zone, FIRST, NOW - timedelta(days=3)) for zone in ZONES}
AGENTS = [
    FIREFOX,
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
]
EXAMPLES = int(os.environ.get("FOOTFALL_TEST_EXAMPLES", "150"))


def happenings() -> Iterator[dict[str, Any]]:
    """Visits around every clock's change, and some at any time of a dozen other days."""
    dice = random.Random(11)
    moments = [
        at + timedelta(minutes=dice.randrange(-1500, 1560), milliseconds=dice.randrange(60_000))
        for zone in ZONES
        for at in CHANGES[zone]
        for _ in range(25)
    ]
    days = dice.sample(range(350), 12)
    moments += [
        FIRST + timedelta(days=dice.choice(days), seconds=dice.randrange(86_400))
        for _ in range(150)
    ]
    for visit, began in enumerate(moments):
        at = began
        common = {
            "visitor_id": f"v-{dice.randrange(120)}",
            "session_id": f"s-{visit}" if dice.random() < 0.9 else None,
            "user_agent": dice.choice(AGENTS),
            "country": dice.choice(["DE", "JP", None]),
        }
        for step in range(dice.randrange(1, 5)):
            names = ["page_view", "page_view", "view_item", "add_to_cart", "begin_checkout"]
            name = dice.choice([*names, "purchase", "refund", "custom"])
            event: dict[str, Any] = {
                **common,
                "event": name,
                "event_id": f"{visit}-{step}",
                "timestamp": int(at.timestamp() * 1000),
                "url": f"https://shop.example/{dice.choice(['a', 'b', 'A/long'])}"
                + dice.choice(["", "?utm_source=news&utm_campaign=spring", "?gclid=x"]),
                "referrer": dice.choice([None, "https://www.google.com/", "https://t.co/x"]),
            }
            if name in ("purchase", "refund"):
                event |= {
                    "order_id": f"o-{dice.randrange(150)}",
                    "value": f"{dice.randrange(1, 9999)}",
                    "currency": dice.choice(["EUR", "EUR", "JPY"]),
                }
            if name in ("view_item", "add_to_cart", "purchase"):
                event["items"] = [
                    {"product_id": f"p-{n}", "quantity": dice.randrange(1, 4), "price": "3"}
                    for n in range(dice.randrange(3))
                ]
                event.setdefault("currency", "EUR")
            yield event
            at += timedelta(milliseconds=dice.randrange(1, 4_000_000))


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop, and its raw rows as the database holds them."""

    merchant: int
    events: list[brute.Row]
    items: list[brute.Row]


@pytest.fixture(scope="module")
def shop(service: Service) -> Shop:
    """A shop where all that happened."""
    merchant = service.merchant()
    sent = list(happenings())
    for start in range(0, len(sent), 5000):
        service.send(merchant, *sent[start : start + 5000])
    people = sum("Googlebot" not in event["user_agent"] for event in sent)
    body = {"metrics": ["events"], "date_range": [FIRST.isoformat(), NOW.isoformat()]}

    def there() -> bool:
        return bool(service.ask(merchant, **body)["rows"][0]["events"] >= people)

    wait_until(there, 60, "the events are not in the answer")
    # hundreds of old buckets, one pass of a database in WebAssembly
    service.wait_until_fresh(merchant, 180)
    tables: dict[str, list[brute.Row]] = {"events": [], "event_items": []}
    for dsn in service.world.shards:
        with psycopg.connect(dsn, row_factory=dict_row) as connection:
            connection.execute("SET timezone = 'UTC'")
            for table, rows in tables.items():
                rows.extend(
                    connection.execute(
                        f"SELECT * FROM {table} WHERE merchant_id = %s", (merchant,)
                    ).fetchall()
                )
    assert len(tables["events"]) == len(sent)
    return Shop(merchant, tables["events"], tables["event_items"])


SESSION = ["source", "channel", "campaign", "country", "device", "browser", "os"]
VALUES = {
    "event": ["page_view", "purchase", "custom", "none"],
    "page": ["/a", "/b", "/A/long", "a"],
    "product": ["p-0", "p-1", "p"],
    "source": ["google", "direct", "news", "go"],
    "channel": ["Direct", "Organic Search", "Paid Search", "search"],
    "campaign": ["spring", "(none)", "s"],
    "country": ["DE", "JP", "(none)", "FR"],
    "device": ["desktop", "mobile", "bot"],
    "browser": ["Firefox", "(none)", "fire"],
    "os": ["Linux", "iOS", "i"],
}


@st.composite
def questions(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    """A question that the schema allows."""
    metrics = {metric["name"]: metric for metric in schema["metrics"]}
    names = draw(st.lists(st.sampled_from(sorted(metrics)), min_size=1, max_size=4, unique=True))
    allowed = set.intersection(*(set(metrics[name]["dimensions"]) for name in names))
    if "product" in allowed:  # the schema's rule: with event alone
        allowed = draw(st.sampled_from([allowed - {"product"}, {"product", "event"}]))
    dimensions = draw(st.lists(st.sampled_from(sorted(allowed)), max_size=2, unique=True))
    conditions = st.sampled_from(sorted(allowed)).flatmap(
        lambda name: st.tuples(
            st.sampled_from(["is", "is_not", "contains", "contains_not", "matches_prefix"]),
            st.just(name),
            st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=2, unique=True),
        ).map(list)
    )
    filters = st.recursive(
        conditions,
        lambda part: st.one_of(
            st.tuples(st.sampled_from(["and", "or"]), st.lists(part, min_size=1, max_size=2)).map(
                list
            ),
            st.tuples(st.just("not"), part).map(list),
        ),
        max_leaves=3,
    )
    zone = draw(st.sampled_from(ZONES))
    interval = draw(st.sampled_from([None, "minute", "hour", "day", "week", "month"]))
    around = draw(st.sampled_from(CHANGES[zone] or CHANGES["Europe/Berlin"]))
    longest = {"minute": 30, "hour": 24 * 20}.get(interval or "", 24 * 60)
    start = around - timedelta(hours=draw(st.integers(0, longest // 2)))
    end = around + timedelta(hours=draw(st.integers(1, longest // 2)))
    if draw(st.booleans()):  # whole days of the zone, as most ask
        place = ZoneInfo(zone)
        days = (start.astimezone(place).date(), end.astimezone(place).date() + timedelta(days=1))
        date_range = [day.isoformat() for day in days]
    else:
        shift = timedelta(minutes=draw(st.sampled_from([0, 0, 15, 30, 17])))
        date_range = [(at + shift).isoformat() for at in (start, end)]
    return {
        "metrics": names,
        "dimensions": ([f"time:{interval}"] if interval else []) + dimensions,
        "filters": draw(st.lists(filters, max_size=2)),
        "timezone": zone,
        "currency": draw(st.sampled_from(["EUR", "JPY"])),
        "date_range": date_range,
        "limit": 10_000,
        "include": {"totals": True},
    }


def test_every_answer_is_the_brute_force_one(service: Service, shop: Shop) -> None:
    schema = service.call("GET", "/v1/schema", key=None).json()
    exponents = {"EUR": 2, "JPY": 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="FOOTFALL_TEST_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(asked=questions(schema))
    def check(asked: dict[str, Any]) -> None:
        told = service.ask(shop.merchant, **asked)
        resolved = {**asked, "date_range": told["query"]["date_range"]}
        wanted = brute.answers(shop.events, shop.items, resolved)
        found = {key(row, asked): row for row in told["rows"]}
        assert len(found) == len(told["rows"])
        if [name[:5] for name in asked["dimensions"]] == ["time:"]:
            assert set(wanted) <= set(found)  # a series shows empty buckets too
        elif asked["dimensions"]:
            assert set(wanted) == set(found)
        exponent = exponents[asked["currency"]]
        for each, row in found.items():
            for name in asked["metrics"]:
                right = wanted.get(each, {}).get(name, NOTHING.get(name, 0))
                assert agrees(name, row[name], right, exponent), (name, each, row, right)
        totals = brute.answers(shop.events, shop.items, {**resolved, "dimensions": []})
        if not any(
            part in brute.named(asked["filters"]) | set(asked["dimensions"]) for part in ["product"]
        ):
            for name in asked["metrics"]:
                right = totals.get((), {}).get(name, NOTHING.get(name, 0))
                assert agrees(name, told["totals"][name], right, exponent), (name, right)

    check()


NOTHING = dict.fromkeys(
    ["bounce_rate", "visit_duration", "views_per_session", "conversion_rate",
     "cart_abandonment_rate", "average_order_value"]
)  # fmt: skip


def key(row: dict[str, Any], asked: dict[str, Any]) -> brute.Key:
    """A row's key, its bucket as the brute-force one."""
    found: list[Any] = []
    for dimension in asked["dimensions"]:
        if dimension.startswith("time:"):
            local = datetime.fromisoformat(row["time"])
            assert local.utcoffset() is not None
            found.append(brute.bucket(local, dimension.removeprefix("time:")))
        else:
            found.append(row[dimension])
    return tuple(found)


def agrees(name: str, told: Any, right: Any, exponent: int) -> bool:
    """Whether a number is the right one: exactly, but for visitors, and ratios to six places."""
    if right is None or told is None:
        return told is right
    if name == "visitors":
        return bool(abs(told - right) <= max(2, 5 * 0.0163 * right))
    if name in ("revenue", "refunds", "average_order_value"):
        minor = Decimal(told["amount"]).scaleb(exponent)
        return minor == Decimal(right).to_integral_value(ROUND_HALF_EVEN)
    return bool(told == pytest.approx(right, abs=1e-6))
