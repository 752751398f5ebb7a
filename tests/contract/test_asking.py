"""POST /v1/query and its shorthands: every number against one computed here, in every zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from events.transform import LOGIC_VERSION
from tests.service import FIREFOX, Service

ROBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - timedelta(days=6)
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Auckland"]


def visits() -> Iterator[dict[str, Any]]:
    """Five days of visits, a few an hour, some of which buy; and a bot."""
    for hour in range(0, 5 * 24, 3):
        for nth in range(3):
            at = START + timedelta(hours=hour, minutes=17 * nth + 5)
            visit = hour * 3 + nth
            common = {
                "visitor_id": f"v-{visit % 50}",
                "session_id": f"s-{visit}",
                "user_agent": FIREFOX,
                "country": "DE" if visit % 3 else "JP",
            }
            names = ["page_view"]
            if nth:
                names += ["view_item", "add_to_cart"]
            if nth == 2:
                names += ["begin_checkout", "purchase"]
            for step, name in enumerate(names):
                event: dict[str, Any] = {
                    **common,
                    "event": name,
                    "event_id": f"{visit}-{step}",
                    "timestamp": int((at + timedelta(minutes=step)).timestamp() * 1000),
                    "url": f"https://shop.example/{name}",
                }
                if name == "page_view" and visit % 2:
                    event["referrer"] = "https://www.google.com/"
                if name in ("view_item", "add_to_cart"):
                    event["product_id"] = f"p-{visit % 4}"
                if name == "purchase":
                    event |= {"order_id": f"o-{visit}", "value": "19.99", "currency": "EUR"}
                    event["items"] = [{"product_id": "p-1", "quantity": 2, "price": "9.99"}]
                yield event
    yield {
        "event": "page_view",
        "visitor_id": "robot",
        "user_agent": ROBOT,
        "timestamp": int(START.timestamp() * 1000),
        "url": "https://shop.example/",
    }


EVENTS = list(visits())
PEOPLE = EVENTS[:-1]


@pytest.fixture(scope="module")
def shop(service: Service) -> int:
    """A shop with those visits; one order came twice under another event id, and one refund."""
    merchant = service.merchant()
    order = next(dict(e) for e in EVENTS if e["event"] == "purchase")
    refund = order | {"event": "refund", "event_id": "refund", "session_id": None, "value": "5.00"}
    service.send(merchant, *EVENTS, order | {"event_id": "again", "session_id": None}, refund)
    service.wait_for_events(merchant, len(PEOPLE) + 2)
    service.wait_until_fresh(merchant)
    return merchant


def local_day(event: dict[str, Any], zone: str) -> str:
    """The date of an event in a zone."""
    at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC).astimezone(ZoneInfo(zone))
    return at.date().isoformat()


def days(zone: str) -> list[str]:
    """The range asked for: eight local days that hold all visits."""
    first = START.date() - timedelta(days=1)
    return [(first + timedelta(days=n)).isoformat() for n in range(9)]


@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_series_in_any_zone_is_exact(service: Service, shop: int, zone: str) -> None:
    wanted_days = days(zone)
    answer = service.ask(
        shop,
        metrics=["events", "page_views", "product_views", "add_to_carts", "checkouts"],
        dimensions=["time:day"],
        date_range=[wanted_days[0], wanted_days[-1]],
        timezone=zone,
    )
    assert [row["time"][:10] for row in answer["rows"]] == wanted_days[:-1]
    for row in answer["rows"]:
        day = row["time"][:10]
        here = [e["event"] for e in PEOPLE if local_day(e, zone) == day]
        twice = next(e for e in EVENTS if e["event"] == "purchase")
        again = 2 if local_day(twice, zone) == day else 0
        found = {name: row[name] for name in row if name != "time"}
        assert found == {
            "events": len(here) + again,
            "page_views": here.count("page_view"),
            "product_views": here.count("view_item"),
            "add_to_carts": here.count("add_to_cart"),
            "checkouts": here.count("begin_checkout"),
        }, day


@pytest.mark.parametrize("zone", ZONES)
def test_totals_are_exact_in_every_zone(service: Service, shop: int, zone: str) -> None:
    wanted = days(zone)
    metrics = [
        "visitors", "sessions", "orders", "units", "revenue", "refunds", "average_order_value",
        "conversion_rate", "cart_abandonment_rate", "bounce_rate", "views_per_session",
        "visit_duration",
    ]  # fmt: skip
    answer = service.ask(shop, metrics=metrics, date_range=[wanted[0], wanted[-1]], timezone=zone)
    (row,) = answer["rows"]
    orders = sum(e["event"] == "purchase" for e in PEOPLE)
    sessions = {e["session_id"] for e in PEOPLE}
    assert orders == 40
    assert row["orders"] == orders
    assert row["units"] == 2 * orders
    assert row["revenue"] == {"amount": f"{19.99 * orders:.2f}", "currency": "EUR"}
    assert row["refunds"] == {"amount": "5.00", "currency": "EUR"}
    assert row["average_order_value"] == {"amount": "19.99", "currency": "EUR"}
    assert row["sessions"] == len(sessions) == 120
    assert row["conversion_rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert row["cart_abandonment_rate"] == pytest.approx(1 / 2, abs=1e-6)
    assert row["bounce_rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert row["views_per_session"] == pytest.approx(1)
    assert row["visit_duration"] == pytest.approx((0 + 120 + 240) / 3)
    assert abs(row["visitors"] - len({e["visitor_id"] for e in PEOPLE})) <= 2
    assert answer["meta"]["approximate"]["visitors"]["relative_error"] == pytest.approx(
        0.0163, abs=1e-4
    )


@pytest.mark.parametrize(
    ("dimension", "key"),
    [
        ("event", lambda e: e["event"]),
        ("page", lambda e: f"/{e['event']}"),
        ("country", lambda e: e["country"]),
        ("source", lambda e: "google" if "referrer" in e else "direct"),
        ("channel", lambda e: "Organic Search" if "referrer" in e else "Direct"),
        ("device", lambda e: "desktop"),
        ("browser", lambda e: "Firefox"),
        ("os", lambda e: "Linux"),
    ],
)
def test_a_breakdown_is_exact(service: Service, shop: int, dimension: str, key: Any) -> None:
    answer = service.call(
        "GET",
        f"/v1/merchants/{shop}/breakdown?dimension={dimension}&metrics=add_to_carts&date_range=28d",
        key=service.key(shop),
    ).json()
    carts = [e for e in PEOPLE if e["event"] == "add_to_cart"]
    wanted: dict[str, int] = {}
    for event in carts:
        wanted[key(event)] = wanted.get(key(event), 0) + 1
    found = {row[dimension]: row["add_to_carts"] for row in answer["rows"] if row["add_to_carts"]}
    assert found == wanted


def test_products_are_broken_down_by_item(service: Service, shop: int) -> None:
    answer = service.ask(
        shop,
        metrics=["product_views", "units"],
        dimensions=["product"],
        order_by=[["product", "asc"]],
        date_range="28d",
    )
    views: dict[str, int] = {}
    for event in PEOPLE:
        if event["event"] == "view_item":
            views[event["product_id"]] = views.get(event["product_id"], 0) + 1
    units = 2 * sum(e["event"] == "purchase" for e in PEOPLE)
    assert answer["rows"] == [
        {"product": p, "product_views": n, "units": units if p == "p-1" else 0}
        for p, n in sorted(views.items())
    ]


def test_bots_are_left_out_and_shown_by_a_filter(service: Service, shop: int) -> None:
    robots = service.ask(
        shop, metrics=["events"], filters=[["is", "device", ["bot"]]], date_range="28d"
    )
    assert robots["rows"] == [{"events": 1}]


def test_filters_combine(service: Service, shop: int) -> None:
    answer = service.ask(
        shop,
        metrics=["events"],
        date_range="28d",
        filters=[
            ["or", [["is", "country", ["JP"]], ["contains", "page", ["PURCH"]]]],
            ["not", ["matches_prefix", "page", ["/view"]]],
        ],
    )
    wanted = sum(
        (e["country"] == "JP" or e["event"] == "purchase") and e["event"] != "view_item"
        for e in PEOPLE
    )
    extra = 2  # the order that came twice, and the refund of it, both on the purchase's page
    assert answer["rows"] == [{"events": wanted + extra}]
    assert answer["meta"]["source"] == "raw"


def test_pages_of_an_answer_join_without_gap(service: Service, shop: int) -> None:
    asked = {"metrics": ["events"], "dimensions": ["page"], "date_range": "28d"}
    whole = service.ask(shop, **asked)["rows"]
    parts, cursor = [], None
    while True:
        answer = service.ask(shop, **asked, limit=2, cursor=cursor)
        parts += answer["rows"]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert parts == whole


def test_the_previous_period_is_beside_it(service: Service, shop: int) -> None:
    day = START.date()
    answer = service.ask(
        shop,
        metrics=["orders"],
        date_range=[(day + timedelta(days=3)).isoformat(), (day + timedelta(days=5)).isoformat()],
        include={"comparison": "previous_period", "totals": True},
    )
    assert answer["totals"] == {"orders": 16}
    assert answer["comparison"]["totals"] == {"orders": 16}
    assert answer["comparison"]["change_percent"] == {"orders": 0.0}


def test_an_answer_says_how_fresh_it_is(service: Service, shop: int) -> None:
    service.wait_until_fresh(shop, 10)
    meta = service.ask(shop, metrics=["events"], date_range="7d")["meta"]
    assert meta["logic_version"] == LOGIC_VERSION
    assert meta["warnings"] == []


def test_another_merchants_numbers_are_out_of_reach(service: Service, shop: int) -> None:
    other = service.merchant()
    for call in (
        {"method": "GET", "path": f"/v1/merchants/{shop}/summary"},
        {"method": "GET", "path": f"/v1/merchants/{shop}/timeseries"},
        {"method": "GET", "path": f"/v1/merchants/{shop}/breakdown?dimension=page"},
        {
            "method": "POST",
            "path": "/v1/query",
            "json": {"merchant_id": shop, "metrics": ["events"]},
        },
    ):
        answer = service.call(**call, key=service.key(other))
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "no_key"),
        ({"Authorization": "Basic abc"}, "no_key"),
        ({"Authorization": "Bearer ff_nothing"}, "unknown_key"),
    ],
)
def test_no_key_no_answer(service: Service, shop: int, header: dict[str, str], code: str) -> None:
    answer = service.call("GET", f"/v1/merchants/{shop}/summary", key=None, headers=header)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert int(answer.headers["ratelimit-remaining"]) >= 0


def test_a_revoked_key_stops_working(service: Service) -> None:
    merchant = service.merchant()
    listed = service.call("GET", f"/v1/merchants/{merchant}/keys", key=service.admin).json()
    number = listed["keys"][0]["key_id"]
    assert "key" not in listed["keys"][0]
    gone = service.call("DELETE", f"/v1/merchants/{merchant}/keys/{number}", key=service.admin)
    assert gone.status_code == 204
    answer = service.call("GET", f"/v1/merchants/{merchant}/summary", key=service.key(merchant))
    assert answer.json()["code"] == "revoked_key"


def test_a_merchants_key_is_no_operators(service: Service, shop: int) -> None:
    answer = service.call("POST", "/v1/merchants", key=service.key(shop), json={"name": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


def test_money_of_another_currency_is_named_in_a_warning(service: Service) -> None:
    merchant = service.merchant(currency="JPY")
    sale = next(dict(e) for e in EVENTS if e["event"] == "purchase")
    service.send(merchant, sale, sale | {
        "event_id": "yen", "order_id": "yen", "value": 500, "currency": "JPY", "items": None,
    })  # fmt: skip
    service.wait_for_events(merchant, 2)
    answer = service.ask(merchant, metrics=["revenue"], date_range="28d")
    assert answer["rows"] == [{"revenue": {"amount": "500", "currency": "JPY"}}]
    assert "EUR" in answer["meta"]["warnings"][0]
