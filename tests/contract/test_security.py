"""What every answer tells browsers, and what no log line tells anyone."""

import re
from pathlib import Path

import pytest

from tests.conftest import World
from tests.service import Service, page_view, serving

EVERY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
SHOP = "https://shop.example"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/page/main.js", 200),
        ("GET", "/page/none.js", 404),
        ("GET", "/footfall.js", 200),
        ("GET", "/schema", 200),
        ("GET", "/schema/openapi.json", 200),
        ("GET", "/schema/assets/swagger-ui.css", 200),
        ("GET", "/health/live", 200),
        ("GET", "/metrics", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/query", 405),
        ("GET", "/v1/merchants/1/summary", 401),
        ("POST", "/v1/events", 401),
        ("OPTIONS", "/v1/events", 204),
    ],
)
def test_every_answer_bears_the_headers(
    service: Service, method: str, path: str, status: int
) -> None:
    answer = service.call(method, path, key=None)
    assert answer.status_code == status, answer.text
    assert {name: answer.headers.get(name) for name in EVERY} == EVERY
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_runs_no_script_but_its_own(service: Service) -> None:
    page = service.call("GET", "/", key=None)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=|<style", page.text)
    assert not re.search(r"(src|href)=\"(?!/|#)", page.text)


def test_answers_with_numbers_and_keys_are_kept_by_no_cache_between(
    service: Service, shop: int
) -> None:
    for path, body in (
        ("/v1/query", {"metrics": ["events"], "merchant_id": shop}),
        (f"/v1/merchants/{shop}/keys", {"scopes": ["stats:read"]}),
    ):
        answer = service.call("POST", path, key=service.admin, json=body)
        assert answer.is_success, answer.text
        assert re.search("private|no-store", answer.headers["cache-control"])


def test_other_pages_of_the_web_can_load_the_snippet_and_nothing_else(service: Service) -> None:
    for path, policy in (("/footfall.js", "cross-origin"), ("/", "same-origin")):
        answer = service.call("GET", path, key=None)
        assert answer.headers["cross-origin-resource-policy"] == policy


def test_no_key_and_no_address_is_logged(world: World, tmp_path: Path) -> None:
    """Everything that the API says while it is used well and ill."""
    with serving(world, tmp_path) as (service, process):
        shop = service.merchant()
        body = {"scopes": ["events:write"], "origins": [SHOP]}
        made = service.call("POST", f"/v1/merchants/{shop}/keys", key=service.admin, json=body)
        public = made.json()["key"]
        plain = {"Origin": SHOP, "Content-Type": "text/plain"}
        seen = page_view(ip="203.0.113.77")
        path = f"/v1/events?key={public}"
        assert service.call("POST", path, key=None, json=[seen], headers=plain).is_success
        assert service.call("POST", path, key=None, content=b"{", headers=plain).is_client_error
        secret = service.key(shop)
        service.call("POST", f"/v1/events?key={secret}", key=None, json=[seen], headers=plain)
        service.call("GET", f"/v1/merchants/{shop}/summary?key={secret}", key=secret)
        service.call("GET", "/v1/merchants/99999999/summary", key=secret)
        service.send(shop, seen)
        far = {"X-Forwarded-For": "203.0.113.78"}
        service.call("POST", "/v1/query", key=secret, json={"metrics": ["no"]}, headers=far)
        telemetry = service.telemetry()
        keys = [public, secret, service.admin]
    said = "\n".join([*process.lines, telemetry])
    assert "serving" in said
    for text in (*keys, *(key[3:20] for key in keys), "203.0.113.", "?key="):
        assert text not in said
