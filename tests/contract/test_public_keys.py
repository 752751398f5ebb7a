"""A key in a shop's pages is in everybody's hands: what it can do is little, and harms nobody."""

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.plugins.problem_details import ProblemDetailsException

from api.counters import SLOTS, Counters
from api.limits import Window
from tests.processes import wait_until
from tests.service import Service, page_view, serving

SHOP = "https://shop.example"
HOUR_MS = 3_600_000


def public_key(service: Service, merchant: int) -> str:
    body = {"scopes": ["events:write"], "origins": [SHOP]}
    made = service.call("POST", f"/v1/merchants/{merchant}/keys", key=service.admin, json=body)
    return str(made.json()["key"])


def from_page(service: Service, key: str, events: Any) -> Any:
    headers = {"Origin": SHOP, "Content-Type": "text/plain"}
    content = events if isinstance(events, bytes) else json.dumps(events).encode()
    return service.call("POST", f"/v1/events?key={key}", key=None, content=content, headers=headers)


def purchase(order: str, value: str, **fields: Any) -> dict[str, Any]:
    return page_view(event="purchase", order_id=order, value=value, currency="EUR", **fields)


def test_claimed_order_ids_do_not_cost_the_shop_its_revenue(service: Service, shop: int) -> None:
    key = public_key(service, shop)
    claims = [purchase(str(5_001 + number), "0.01") for number in range(100)]
    assert from_page(service, key, claims).json()["accepted"] == 100
    service.wait_for_events(shop, 100)
    service.send(shop, *(purchase(str(5_001 + number), "20.00") for number in range(100)))
    service.wait_for_events(shop, 200)

    def revenue() -> tuple[str, int]:
        row = service.ask(shop, metrics=["revenue", "orders"], date_range="7d")["rows"][0]
        return row["revenue"]["amount"], row["orders"]

    wait_until(lambda: revenue() == ("2000.00", 100), 30, f"the revenue is {revenue()}")


def test_a_page_cannot_pretend_to_be_a_server(service: Service, shop: int) -> None:
    key = public_key(service, shop)
    for said in ("server", None, ""):
        answer = from_page(service, key, [purchase("1", "1.00") | {"sent_by": said}]).json()
        assert [each["reason"] for each in answer["rejected"]] == ["unknown_field"]
    answer = service.call(
        "POST",
        "/v1/events",
        key=service.key(shop),
        json=[page_view(sent_by="public_key")],
    )
    assert [each["reason"] for each in answer.json()["rejected"]] == ["unknown_field"]


def test_a_page_sends_recent_events_only(service: Service, shop: int) -> None:
    key, now = public_key(service, shop), int(time.time() * 1000)
    events = [page_view(timestamp=now - hours * HOUR_MS) for hours in (0, 23, 25, 24 * 300)]
    answer = from_page(service, key, events).json()
    assert answer["accepted"] == 2
    assert [(each["index"], each["reason"]) for each in answer["rejected"]] == [
        (2, "too_old"),
        (3, "too_old"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"value": "10000000.01"},
        {"value": "1.00", "items": [{"product_id": "p", "price": "20", "quantity": 1_000_000}]},
        {"value": "1.00", "items": [{"product_id": "p", "price": "100000.01"}] * 100},
    ],
)
def test_a_page_sends_plausible_values_only(
    service: Service, shop: int, fields: dict[str, Any]
) -> None:
    key = public_key(service, shop)
    event = page_view(event="purchase", order_id="1", currency="EUR", **fields)
    answer = from_page(service, key, [event]).json()
    assert [each["reason"] for each in answer["rejected"]] == ["out_of_range"]
    assert "secret key" in answer["rejected"][0]["detail"]
    sent = service.call("POST", "/v1/events", key=service.key(shop), json=[event]).json()
    assert sent["accepted"] == 1  # by a server's key


def test_a_merchant_can_forbid_orders_from_its_pages(service: Service) -> None:
    body = {"name": "careful", "public_orders": False, "public_value_limit": 500}
    made = service.call("POST", "/v1/merchants", key=service.admin, json=body).json()
    assert (made["public_orders"], made["public_value_limit"]) == (False, 500)
    key = public_key(service, made["merchant_id"])
    refund = page_view(event="refund", order_id="1", value="1.00", currency="EUR")
    cart = page_view(event="add_to_cart", value="500.01", currency="EUR")
    answer = from_page(service, key, [purchase("1", "1.00"), refund, cart, page_view()]).json()
    assert answer["accepted"] == 1
    assert [(each["index"], each["field"], each["reason"]) for each in answer["rejected"]] == [
        (0, "event", "not_allowed"),
        (1, "event", "not_allowed"),
        (2, "value", "out_of_range"),
    ]


def test_the_command_line_sets_what_pages_may_send(service: Service, shop: int) -> None:
    told = service.command("merchants", "set", str(shop), "--no-public-orders")
    assert (told["public_orders"], told["public_value_limit"]) == (False, 10_000_000)
    told = service.command("merchants", "set", str(shop), "--public-value-limit", "7")
    assert (told["public_orders"], told["public_value_limit"]) == (False, 7)
    made = service.command("merchants", "create", "another", "--public-value-limit", "9")
    assert (made["public_orders"], made["public_value_limit"]) == (True, 9)


def test_a_page_sends_little_at_a_time(service: Service, shop: int) -> None:
    key = public_key(service, shop)
    large = [page_view(properties={"a": "x" * 4_000})] * 70
    for events, code in (([page_view()] * 501, "too_many_events"), (large, "body_too_large")):
        answer = from_page(service, key, events)
        assert (answer.status_code, answer.json()["code"]) == (413, code)
        assert "A public key" in answer.json()["detail"]
    packed = gzip.compress(json.dumps(large).encode())
    headers = {"Origin": SHOP, "Content-Encoding": "gzip"}
    answer = service.call("POST", "/v1/events", key=key, content=packed, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.fixture(scope="module")
def limited(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An API with the shipped limits."""
    folder: Path = tmp_path_factory.mktemp("limited")
    more = {f"FOOTFALL_{name}_PER_MINUTE": "6000" for name in ("REQUESTS", "VISITOR_REQUESTS")}
    with serving(service.world, folder, more=more) as (running, _):
        yield running


def test_back_dated_hours_cost_points_and_all_or_nothing_is_taken(limited: Service) -> None:
    shop, now = limited.merchant(), int(time.time() * 1000)
    year = [page_view(timestamp=now - hour * HOUR_MS) for hour in range(50, 8_700)]
    answer = limited.call("POST", "/v1/events", key=limited.key(shop), json=year)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
    days = [page_view(timestamp=now - hour * HOUR_MS) for hour in range(50, 98)]
    answer = limited.call("POST", "/v1/events", key=limited.key(shop), json=days)
    assert answer.json()["accepted"] == 48
    assert int(answer.headers["ratelimit-remaining"]) <= 6_000 - 480
    recent = [page_view(timestamp=now - hour * HOUR_MS) for hour in range(47)]
    answer = limited.call("POST", "/v1/events", key=limited.key(shop), json=recent)
    assert answer.json()["accepted"] == 47


def test_events_and_items_cost_points_of_the_visitor_and_of_the_key(limited: Service) -> None:
    shop = limited.merchant()
    key = public_key(limited, shop)
    items = [{"product_id": "p"}] * 100
    answer = from_page(limited, key, [page_view(event="view_item", items=items)] * 10)
    assert answer.json()["accepted"] == 10
    assert int(answer.headers["ratelimit-remaining"]) == 6_000 - 1 - 1_010 // 50
    whole = Window(Counters(bytearray(SLOTS * 16)), "all", 100)
    visitor = Window(whole.counters, "one", 60, whole)
    visitor.charge(30)
    assert (visitor.left, whole.left) == (30, 70)
    with pytest.raises(ProblemDetailsException):
        visitor.charge(31)
    Window(whole.counters, "two", 60, whole).charge(60)
    with pytest.raises(ProblemDetailsException):
        Window(whole.counters, "three", 60, whole).charge(11)
