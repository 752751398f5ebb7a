"""What protects merchants from one another, and from themselves."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import ROOT, wait_until
from tests.service import Service, page_view, serving


@pytest.fixture(scope="module")
def strict(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A second API over the same data that allows little and keeps no answers."""
    given = {
        "FOOTFALL_REQUESTS_PER_MINUTE": "60",
        "FOOTFALL_RAW_ROWS": "20",
        "FOOTFALL_CACHE_MS": "0",
    }
    folder: Path = tmp_path_factory.mktemp("strict")
    with serving(service.world, folder, more=given) as (running, _):
        yield running


def new_key(service: Service, merchant: int, **how: Any) -> dict[str, Any]:
    body = {"scopes": ["stats:read"], **how}
    made = service.call("POST", f"/v1/merchants/{merchant}/keys", key=service.admin, json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


def routes(service: Service) -> list[tuple[str, str]]:
    """Every method and path that names a merchant."""
    described = service.call("GET", "/schema/openapi.json", key=None).json()
    found = [
        (method.upper(), path)
        for path, methods in described["paths"].items()
        for method in methods
        if "{merchant_id}" in path
    ]
    assert len(found) >= 11
    return found


BODIES = {
    "funnel": {"steps": [{"event": "page_view"}, {"event": "purchase"}]},
    "retention": {},
    "keys": {"scopes": ["stats:read"]},
    "rotate": {},
}


def test_no_route_shows_another_merchants_shop(service: Service, shop: int) -> None:
    key_id = new_key(service, shop)["key_id"]
    foreign = service.key(service.merchant())
    for method, path in routes(service):
        filled = path.format(merchant_id=shop, key_id=key_id, event_id="e-1")
        body = {"json": BODIES[path.rsplit("/", 1)[-1]]} if method == "POST" else {}
        answer = service.call(method, filled, key=foreign, params={"dimension": "page"}, **body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)
        nobody = service.call(method, filled, key=None, params={"dimension": "page"}, **body)
        assert nobody.status_code == 401, (method, path)
    for path, body in [
        ("/v1/query", {"merchant_id": shop, "metrics": ["events"]}),
        (f"/v1/events?merchant_id={shop}", page_view()),
    ]:
        answer = service.call("POST", path, key=foreign, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    listed = service.call("GET", f"/v1/merchants/{shop}/keys", key=service.admin).json()["keys"]
    assert [key["revoked_at"] for key in listed if key["key_id"] == key_id] == [None]


def test_a_key_that_may_only_write_reads_nothing(service: Service, shop: int) -> None:
    key = new_key(service, shop, scopes=["events:write"])["key"]
    for method, path in routes(service):
        body = {"json": BODIES[path.rsplit("/", 1)[-1]]} if method == "POST" else {}
        answer = service.call(
            method,
            path.format(merchant_id=shop, key_id=1, event_id="e-1"),
            key=key,
            params={"dimension": "page"},
            **body,
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope"), path


def works(service: Service, merchant: int, key: str) -> str:
    """ "yes", or the refusal's code."""
    answer = service.call("GET", f"/v1/merchants/{merchant}/summary", key=key)
    return "yes" if answer.status_code == 200 else str(answer.json()["code"])


def test_a_rotated_key_and_its_successor_overlap(service: Service, shop: int) -> None:
    old = new_key(service, shop, name="dashboard")
    path = f"/v1/merchants/{shop}/keys/{old['key_id']}/rotate"
    made = service.call("POST", path, key=service.admin, json={"overlap_seconds": 3}).json()
    until = datetime.fromisoformat(made["old_valid_until"])
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(seconds=3)
    assert made["scopes"] == ["stats:read"]
    assert works(service, shop, made["key"]) == works(service, shop, old["key"]) == "yes"
    wait_until(
        lambda: works(service, shop, old["key"]) == "expired_key", 10, "the old key still works"
    )
    assert works(service, shop, made["key"]) == "yes"
    gone = service.call("POST", path, key=service.admin, json={})
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


def test_keys_are_made_with_an_end_and_rotated_on_the_command_line(
    service: Service, shop: int
) -> None:
    scope = ("--merchant", str(shop), "--scope", "stats:read")
    made = service.command("keys", "create", *scope, "--expires", "90d")
    until = datetime.fromisoformat(made["expires_at"])
    assert timedelta(days=89) < until - datetime.now(UTC) < timedelta(days=91)
    next_one = service.command("keys", "rotate", str(made["key_id"]), "--overlap", "0")
    assert works(service, shop, next_one["key"]) == "yes"
    assert works(service, shop, made["key"]) == "expired_key"
    refused = subprocess.run(
        [sys.executable, "-m", "footfall", "keys", "create", *scope, "--expires", "soon"],
        cwd=ROOT,
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "no expiry" in re.sub(r"\s+", " ", refused.stderr)


def test_a_revoked_key_stops_within_ten_seconds(service: Service, shop: int) -> None:
    key = new_key(service, shop)
    assert works(service, shop, key["key"]) == "yes"
    began = time.monotonic()
    service.call(
        "DELETE", f"/v1/merchants/{shop}/keys/{key['key_id']}", key=service.admin
    ).raise_for_status()
    wait_until(lambda: works(service, shop, key["key"]) == "revoked_key", 10, "it still works")
    assert time.monotonic() - began < 10


def test_raw_questions_cost_more_points_and_every_answer_tells_what_is_left(
    strict: Service, service: Service, shop: int
) -> None:
    key = new_key(service, shop)["key"]

    def left(answer: httpx.Response) -> int:
        assert answer.headers["ratelimit-limit"] == "60"
        assert 0 <= int(answer.headers["ratelimit-reset"]) <= 60
        return int(answer.headers["ratelimit-remaining"])

    body: dict[str, Any] = {"metrics": ["events"]}
    assert left(strict.call("POST", "/v1/query", key=key, json=body)) == 59
    assert left(strict.call("POST", "/v1/query", key=key, json={"metrics": ["none"]})) == 58
    raw = body | {"dimensions": ["page", "country"]}
    assert left(strict.call("POST", "/v1/query", key=key, json=raw)) == 48
    path = f"/v1/merchants/{shop}/funnel"
    assert left(strict.call("POST", path, key=key, json=BODIES["funnel"])) == 28
    assert left(strict.call("POST", path, key=key, json=BODIES["funnel"])) == 8
    refused = strict.call("POST", path, key=key, json=BODIES["funnel"])
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert left(refused) == 7
    assert left(strict.call("POST", "/v1/query", key=key, json=body)) == 6


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_a_question_that_would_read_too_many_raw_rows_is_refused(
    strict: Service, service: Service, accept: str
) -> None:
    merchant = service.merchant()
    service.send(merchant, *(page_view(visitor_id=f"v{n}") for n in range(25)))
    service.wait_for_events(merchant, 25)
    key = new_key(service, merchant)["key"]
    body = {"metrics": ["events"], "dimensions": ["page", "country"]}
    answer = strict.call("POST", "/v1/query", key=key, json=body, headers={"Accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (422, "too_expensive")
    assert (answer.json()["rows"], answer.json()["limit"]) == (25, 20)
    # a rollup answers the same without the second dimension
    body = {"metrics": ["events"], "dimensions": ["page"]}
    answer = strict.call("POST", "/v1/query", key=key, json=body, headers={"Accept": accept})
    assert answer.status_code == 200
    funnel = strict.call("POST", f"/v1/merchants/{merchant}/funnel", key=key, json=BODIES["funnel"])
    assert funnel.json()["code"] == "too_expensive"


def test_an_answer_known_already_is_not_sent_again(service: Service) -> None:
    merchant = service.merchant()
    service.send(merchant, page_view())
    service.wait_for_events(merchant, 1)
    service.wait_until_fresh(merchant)
    path = f"/v1/merchants/{merchant}/summary?metrics=events"
    first = service.call("GET", path, key=service.key(merchant))
    known = {"If-None-Match": first.headers["etag"]}
    again = service.call("GET", path, key=service.key(merchant), headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["footfall-fresh-as-of"] >= first.json()["meta"]["fresh_as_of"]
    service.send(merchant, page_view())
    service.wait_for_events(merchant, 2)
    wait_until(
        lambda: service.call(
            "GET", path, key=service.key(merchant), headers=known
        ).status_code == 200,
        10,
        "an answer that has changed is said not to have",
    )  # fmt: skip


def test_a_kept_answer_is_never_older_than_it_says(service: Service) -> None:
    """Events are sent one by one while the same question is asked: an answer holds at least what
    had been logged by the instant that it names."""
    merchant = service.merchant()
    service.send(merchant, page_view())
    service.wait_for_events(merchant, 1)
    logged: list[datetime] = []
    seen: list[tuple[datetime, int]] = []
    body = {"metrics": ["events"], "date_range": "7d"}
    with httpx.Client(base_url=service.url, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {service.key(merchant)}"
        for number in range(400):
            if number % 20 == 0:
                client.post(
                    "/v1/events", json=page_view(visitor_id=f"v{number}")
                ).raise_for_status()
                logged.append(datetime.now(UTC))
            told = client.post("/v1/query", json=body).raise_for_status().json()
            as_of = datetime.fromisoformat(told["meta"]["fresh_as_of"])
            seen.append((as_of, told["rows"][0]["events"]))
            time.sleep(0.01)
    for as_of, events in seen:
        assert events >= 1 + sum(at < as_of for at in logged)
    assert seen[-1][1] > 10
    assert len({as_of for as_of, _ in seen}) > 1


def test_the_same_answer_is_asked_of_the_shard_once(service: Service) -> None:
    merchant = service.merchant()
    service.send(merchant, page_view())
    service.wait_for_events(merchant, 1)
    service.wait_until_fresh(merchant)
    path = f"/v1/merchants/{merchant}/timeseries?interval=hour"

    def took() -> float:
        began = time.perf_counter()
        service.call("GET", path, key=service.key(merchant)).raise_for_status()
        return time.perf_counter() - began

    took()
    time.sleep(2)  # beyond the time for which any answer is kept
    first = service.call("GET", path, key=service.key(merchant)).json()["meta"]["fresh_as_of"]
    wait_until(
        lambda: (
            service.call("GET", path, key=service.key(merchant)).json()["meta"]["fresh_as_of"]
            > first
        ),
        10,
        "a kept answer does not become fresher while nothing changes",
    )


def test_logs_hold_no_key(service: Service, shop: int, tmp_path: Path) -> None:
    with serving(service.world, tmp_path) as (running, process):
        key = service.key(shop)
        running.call("GET", f"/v1/merchants/{shop}/summary", key=key).raise_for_status()
        running.call("GET", "/v1/merchants/x", key=key)
        assert not any(key in line for line in process.lines)
        assert json.dumps(process.lines).count("ff_") == 0
