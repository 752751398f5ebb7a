"""Requests that come again: answered from memory, and by the same rules as the first time."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import wait_until
from tests.service import Service, page_view, serving

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def two_workers(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A second API over the same data, of two processes that share answers."""
    folder: Path = tmp_path_factory.mktemp("two")
    with serving(service.world, folder, workers=2) as (running, _):
        yield running


def shop_with_a_view(service: Service) -> int:
    merchant = service.merchant()
    service.send(merchant, page_view())
    service.wait_for_events(merchant, 1)
    return merchant


def new_key(service: Service, merchant: int) -> dict[str, Any]:
    body = {"scopes": ["stats:read"]}
    made = service.call("POST", f"/v1/merchants/{merchant}/keys", key=service.admin, json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


def asked(merchant: int) -> list[tuple[str, str, dict[str, Any]]]:
    """The same by address and by body."""
    return [
        ("GET", f"/v1/merchants/{merchant}/timeseries?metrics=events&date_range=7d", {}),
        ("POST", "/v1/query", {"json": {"metrics": ["events"], "date_range": "7d"}}),
        ("POST", f"/v1/merchants/{merchant}/retention", {"json": {}}),
    ]


def counted(service: Service) -> float:
    """Questions that the metrics tell of."""
    told = service.telemetry()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in told.splitlines()
        if line.startswith("footfall_api_requests_total{") and "timeseries" in line
    )


def test_the_second_answer_is_as_the_first(service: Service) -> None:
    merchant = shop_with_a_view(service)
    for method, path, how in asked(merchant):
        key = new_key(service, merchant)["key"]
        before = counted(service)
        answers = [service.call(method, path, key=key, **how) for _ in range(4)]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["meta"]["source"] for answer in answers}) == 1
        assert {frozenset(answer.headers) for answer in answers} == {frozenset(answers[0].headers)}
        assert answers[0].headers["x-content-type-options"] == "nosniff"
        assert answers[3].headers["content-type"] == "application/json"
        left = [int(answer.headers["ratelimit-remaining"]) for answer in answers]
        cost = 20 if "retention" in path else 1
        assert left == [left[0] - cost * n for n in range(4)]
        if "timeseries" in path:
            assert counted(service) == before + 4


def test_a_header_makes_it_another_request(service: Service) -> None:
    merchant = shop_with_a_view(service)
    key = service.key(merchant)
    for method, path, how in asked(merchant)[:2]:
        for accept, kind in (("application/json", "application/json"), ("text/csv", "text/csv")):
            for _ in range(2):
                told = service.call(method, path, key=key, headers={"Accept": accept}, **how)
                assert told.headers["content-type"].startswith(kind)


def test_a_revoked_key_is_refused_though_its_question_was_answered(two_workers: Service) -> None:
    merchant = shop_with_a_view(two_workers)
    method, path, how = asked(merchant)[0]
    key = new_key(two_workers, merchant)
    for _ in range(10):
        assert two_workers.call(method, path, key=key["key"], **how).status_code == 200
    gone = f"/v1/merchants/{merchant}/keys/{key['key_id']}"
    assert two_workers.call("DELETE", gone, key=two_workers.admin).status_code == 204
    wait_until(
        lambda: (
            [two_workers.call(method, path, key=key["key"], **how).status_code for _ in range(8)]
            == [401] * 8
        ),
        10,
        "a revoked key still asks",
    )


def test_an_expired_key_is_refused_at_once(service: Service) -> None:
    merchant = shop_with_a_view(service)
    method, path, how = asked(merchant)[1]
    ends = time.time() + 3
    body = {"scopes": ["stats:read"], "expires_at": datetime.fromtimestamp(ends, UTC).isoformat()}
    made = service.call("POST", f"/v1/merchants/{merchant}/keys", key=service.admin, json=body)
    assert made.status_code == 201, made.text
    key = made.json()["key"]
    while time.time() < ends - 0.5:
        assert service.call(method, path, key=key, **how).status_code == 200
    time.sleep(max(0.0, ends - time.time()))
    assert service.call(method, path, key=key, **how).json()["code"] == "expired_key"


def test_another_shop_is_not_told(service: Service) -> None:
    merchant, other = shop_with_a_view(service), shop_with_a_view(service)
    method, path, how = asked(merchant)[0]
    for key, status in ((merchant, 200), (other, 404), (merchant, 200), (other, 404)):
        assert service.call(method, path, key=service.key(key), **how).status_code == status
    # the same bytes but for the key: each gets its own
    method, path, how = asked(merchant)[1]
    for key in (merchant, other, merchant, other):
        told = service.call(method, path, key=service.key(key), **how).json()
        assert told["query"]["merchant_id"] == key


def test_a_long_or_broken_body_is_parsed_each_time(service: Service) -> None:
    merchant = shop_with_a_view(service)
    key = service.key(merchant)
    filters = [["is", "page", ["/" + "x" * 2000] * 20]]
    body = {"metrics": ["events"], "date_range": "7d", "filters": filters}
    for _ in range(2):
        told = service.call("POST", "/v1/query", key=key, json=body)
        assert told.json()["rows"] == [{"events": 0}]
        broken = service.call("POST", "/v1/query", key=key, content=b'{"metrics": ["events"')
        assert broken.status_code == 400


def test_no_worker_answers_older_than_it_says(two_workers: Service, service: Service) -> None:
    """Events are sent one by one, every other of an hour that is over, while the same questions are
    asked of both workers by connections of their own."""
    merchant = shop_with_a_view(service)
    key = service.key(merchant)
    logged: list[datetime] = []
    seen: list[tuple[datetime, int]] = []
    headers = {"Authorization": f"Bearer {key}"}
    clients = [
        httpx.Client(base_url=two_workers.url, timeout=30, headers=headers) for _ in range(6)
    ]
    for number in range(300):
        if number % 30 == 0:
            at = int(time.time() * 1000) - (number % 60 and 3 * HOUR_MS)
            service.send(merchant, page_view(visitor_id=f"v{number}", timestamp=at))
            logged.append(datetime.now(UTC))
        for method, path, how in asked(merchant)[:2]:
            told = clients[number % 6].request(method, path, **how).raise_for_status().json()
            as_of = datetime.fromisoformat(told["meta"]["fresh_as_of"])
            seen.append((as_of, sum(row["events"] for row in told["rows"])))
        time.sleep(0.02)
    for client in clients:
        client.close()
    for as_of, events in seen:
        assert events >= 1 + sum(at < as_of for at in logged)
    assert len({as_of for as_of, _ in seen}) > 1


def test_the_polls_that_keep_answers_true_do_not_fail(service: Service, shop: int) -> None:
    service.send(shop, page_view())
    service.wait_for_events(shop, 1)
    told = service.telemetry()
    for shard in range(len(service.world.shards)):
        assert f'footfall_task_running{{task="watermarks_{shard}"}} 1.0' in told
        assert f'footfall_task_failures_total{{task="watermarks_{shard}"}}' not in told
