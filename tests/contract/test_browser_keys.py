"""Sending from a browser: a key in the address, good for its origins and for nothing else."""

import pytest

from tests.service import Service, page_view

SHOP = "https://shop.example"
PLAIN = {"Content-Type": "text/plain;charset=UTF-8"}


@pytest.fixture
def browser_key(service: Service, shop: int) -> str:
    """A key that may stand in the shop's pages."""
    body = {"scopes": ["events:write"], "origins": [SHOP, "https://www.shop.example"]}
    made = service.call("POST", f"/v1/merchants/{shop}/keys", key=service.admin, json=body)
    assert made.status_code == 201, made.text
    assert made.json()["origins"] == body["origins"]
    return str(made.json()["key"])


def test_a_page_of_an_allowed_origin_sends_and_may_read_the_answer(
    service: Service, shop: int, browser_key: str
) -> None:
    answer = service.call(
        "POST",
        f"/v1/events?key={browser_key}",
        key=None,
        json=[page_view()],
        headers={"Origin": SHOP, **PLAIN},
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    service.wait_for_events(shop, 1)


def test_a_refusal_too_can_be_read_by_an_allowed_origin(service: Service, browser_key: str) -> None:
    answer = service.call(
        "POST",
        f"/v1/events?key={browser_key}",
        key=None,
        content=b"{",
        headers={"Origin": SHOP, **PLAIN},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "Retry-After" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "http://shop.example", SHOP + ".evil.example"]
)
def test_any_other_origin_is_refused_and_reads_nothing(
    service: Service, browser_key: str, origin: str | None
) -> None:
    headers = {**PLAIN, **({"Origin": origin} if origin else {})}
    for path, key in ((f"/v1/events?key={browser_key}", None), ("/v1/events", browser_key)):
        answer = service.call("POST", path, key=key, json=page_view(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_allows_nothing(service: Service, browser_key: str) -> None:
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    answer = service.call("OPTIONS", f"/v1/events?key={browser_key}", key=None, headers=asks)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_secret_key_in_an_address_is_refused(service: Service, shop: int) -> None:
    path = f"/v1/events?key={service.key(shop)}"
    headers = {"Origin": SHOP, **PLAIN}
    answer = service.call("POST", path, key=None, json=page_view(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "secret_key_in_address")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_key_in_an_address_opens_no_other_route(
    service: Service, shop: int, browser_key: str
) -> None:
    for key in (browser_key, service.key(shop), service.admin):
        for method, path in (
            ("POST", "/v1/query"),
            ("GET", f"/v1/merchants/{shop}/summary"),
            ("GET", f"/v1/merchants/{shop}/keys"),
        ):
            answer = service.call(method, f"{path}?key={key}", key=None, json={"metrics": ["x"]})
            assert answer.status_code in (400, 401), (path, answer.text)


def test_a_browser_key_reads_nothing_in_a_header_either(
    service: Service, shop: int, browser_key: str
) -> None:
    answer = service.call(
        "GET",
        f"/v1/merchants/{shop}/summary",
        key=browser_key,
        headers={"Origin": SHOP},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


def test_with_the_key_in_the_address_only_plain_text_is_taken(
    service: Service, browser_key: str
) -> None:
    answer = service.call(
        "POST", f"/v1/events?key={browser_key}", key=None, json={}, headers={"Origin": SHOP}
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "not_plain_text")


def test_the_key_that_takes_its_place_is_no_freer(service: Service, shop: int) -> None:
    path = f"/v1/merchants/{shop}/keys"
    body = {"scopes": ["events:write"], "origins": [SHOP]}
    old = service.call("POST", path, key=service.admin, json=body).json()
    new = service.call("POST", f"{path}/{old['key_id']}/rotate", key=service.admin).json()
    for origin, status in ((SHOP, 202), ("https://evil.example", 403)):
        answer = service.call(
            "POST",
            f"/v1/events?key={new['key']}&validate=true",
            key=None,
            json=page_view(),
            headers={"Origin": origin, **PLAIN},
        )
        assert answer.status_code == status, answer.text
    listed = service.call("GET", path, key=service.admin).json()["keys"]
    assert [key["origins"] for key in listed[-2:]] == [[SHOP], [SHOP]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scopes": ["events:write"], "origins": ["shop.example"]}, 400),
        ({"scopes": ["events:write", "stats:read"], "origins": [SHOP]}, 400),
        ({"scopes": ["events:write"], "origins": ["https://SHOP.example/"]}, 201),
    ],
)
def test_origins_are_checked_when_the_key_is_made(
    service: Service, shop: int, body: dict[str, list[str]], status: int
) -> None:
    made = service.call("POST", f"/v1/merchants/{shop}/keys", key=service.admin, json=body)
    assert made.status_code == status, made.text
    if status == 201:
        assert made.json()["origins"] == [SHOP]
    else:
        assert made.json()["field"] == "origins"


def test_the_command_line_makes_them_too(service: Service, shop: int) -> None:
    made = service.command(
        "keys",
        "create",
        "--merchant",
        str(shop),
        "--scope",
        "events:write",
        "--origin",
        "https://Shop.example",
    )
    assert made["origins"] == [SHOP]
    answer = service.call(
        "POST",
        f"/v1/events?key={made['key']}&validate=true",
        key=None,
        json=page_view(),
        headers={"Origin": SHOP, **PLAIN},
    )
    assert answer.status_code == 202, answer.text
