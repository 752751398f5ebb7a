"""The Python client's manners, against answers made up here."""

import gzip
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from footfall_client import (
    AsyncFootfall,
    EventQueue,
    Footfall,
    Patience,
    Problem,
    Query,
    QueueFullError,
    Rejected,
    Send,
)
from footfall_client.retry import tries

QUICK = Patience(first_wait_s=0.001)
ANSWER = {
    "rows": [{"visitors": 3, "revenue": {"amount": "19.99", "currency": "EUR"}}],
    "meta": {
        "fresh_as_of": "2026-11-01T10:00:00Z",
        "complete": True,
        "source": "hourly",
        "logic_version": 1,
        "something_new": 1,
    },
    "query": {},
}
EVENT = {"event": "page_view", "visitor_id": "v", "url": "https://shop.example/"}
Answers = list[httpx.Response | Exception]


def answering(answers: Answers) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A transport that gives these answers in turn, and the requests that it saw."""
    seen: list[httpx.Request] = []
    left = iter(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle), seen


def client(answers: Answers, patience: Patience = QUICK) -> tuple[Footfall, list[httpx.Request]]:
    """A client that is answered so."""
    transport, seen = answering(answers)
    return Footfall("http://footfall", "ff_k", patience=patience, transport=transport), seen


def events_of(request: httpx.Request) -> list[dict[str, Any]]:
    """What a request to send holds."""
    packed = request.headers.get("content-encoding") == "gzip"
    return list(json.loads(gzip.decompress(request.content) if packed else request.content))


def accepted(count: int) -> httpx.Response:
    """The usual answer."""
    return httpx.Response(202, json={"accepted": count, "rejected": []})


def test_an_answer_is_a_value_with_exact_money() -> None:
    shop, seen = client([httpx.Response(200, json=ANSWER)])
    with shop:
        answer = shop.ask(Query(["visitors", "revenue"], date_range=("2026-10-01", "2026-11-01")))
    assert answer.rows[0]["visitors"] == 3
    assert str(answer.money(answer.rows[0]["revenue"]).amount) == "19.99"
    assert answer.meta.fresh_as_of == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert seen[0].headers["authorization"] == "Bearer ff_k"
    assert json.loads(seen[0].content)["date_range"] == ["2026-10-01", "2026-11-01"]


def test_every_try_sends_the_same_ids_and_times() -> None:
    away = httpx.ConnectError("away")
    shop, seen = client([away, httpx.Response(502), accepted(60)])
    with shop:
        sent = shop.ask(Send([EVENT] * 60))
    assert sent.accepted == 60
    bodies = [events_of(request) for request in seen]
    assert bodies[0] == bodies[1] == bodies[2]
    assert len({event["event_id"] for event in bodies[0]}) == 60
    assert all(isinstance(event["timestamp"], int) for event in bodies[0])


def test_an_id_that_is_there_is_kept() -> None:
    assert Send([{**EVENT, "event_id": "mine", "timestamp": 5}]).events[0]["event_id"] == "mine"


async def test_asyncio_asks_the_same_questions() -> None:
    transport, seen = answering([httpx.ReadTimeout("slow"), httpx.Response(200, json=ANSWER)])
    async with AsyncFootfall("http://f", "ff_k", patience=QUICK, transport=transport) as shop:
        answer = await shop.ask(Query(["visitors"]))
    assert answer.rows[0]["visitors"] == 3
    assert len(seen) == 2


def test_a_refusal_is_a_problem_and_is_not_asked_again() -> None:
    body = {"code": "unknown_metric", "detail": "Did you mean visitors?", "request_id": "r1"}
    shop, seen = client([httpx.Response(400, json={**body, "field": "metric"})])
    with shop, pytest.raises(Problem, match="Did you mean visitors") as raised:
        shop.ask(Query(["visitor"]))
    problem = raised.value
    assert (problem.status, problem.code, problem.request_id) == (400, "unknown_metric", "r1")
    assert problem.body["field"] == "metric"
    assert len(seen) == 1


@pytest.mark.parametrize("status", [200, 400])
def test_what_is_not_footfalls_is_a_problem_too(status: int) -> None:
    shop, _ = client([httpx.Response(status, text="<html>a proxy</html>")])
    with shop, pytest.raises(Problem) as raised:
        shop.ask(Query(["visitors"]))
    assert (raised.value.status, raised.value.code) == (status, "unknown")


def test_patience_ends() -> None:
    shop, seen = client([httpx.Response(503)] * 9)
    with shop, pytest.raises(Problem):
        shop.ask(Query(["visitors"]))
    assert len(seen) == QUICK.tries
    shop, seen = client([httpx.ConnectError("away")] * 9)
    with shop, pytest.raises(httpx.ConnectError):
        shop.ask(Query(["visitors"]))
    assert len(seen) == QUICK.tries


def waits(header: str, patience: Patience) -> float:
    """How long is waited after a 429 with this Retry-After."""
    trying = tries(patience)
    next(trying)
    return trying.send(httpx.Response(429, headers={"Retry-After": header}))


@pytest.mark.parametrize(
    "write", [str, lambda s: format_datetime(datetime.now(UTC) + timedelta(seconds=s))]
)
def test_the_servers_wish_is_waited_for(write: Callable[[int], str]) -> None:
    assert 6 < waits(write(8), Patience(first_wait_s=0.1)) <= 8
    assert waits("soon", Patience(first_wait_s=0.1)) <= 0.1
    with pytest.raises(Problem) as raised:
        waits(write(120), Patience(longest_wait_s=30))
    assert raised.value.retry_after == pytest.approx(120, abs=2)


def test_waits_grow_and_are_bounded() -> None:
    trying = tries(Patience(tries=8, first_wait_s=1, longest_wait_s=8))
    assert next(trying) == 0
    found = [trying.send(httpx.ConnectError("away")) for _ in range(7)]
    for wait, most in zip(found, [1, 2, 4, 8, 8, 8, 8], strict=True):
        assert most / 2 <= wait <= most


def test_a_queue_sends_in_order_in_batches_and_all_at_its_close() -> None:
    shop, seen = client([accepted(3), accepted(3), accepted(1)])
    with shop:
        with EventQueue(shop, batch=3, linger_s=10) as events:
            for number in range(7):
                events.add({**EVENT, "visitor_id": str(number)})
        batches = [[event["visitor_id"] for event in events_of(request)] for request in seen]
        assert batches == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
        with pytest.raises(ValueError, match="closed"):
            events.add(EVENT)


def test_a_lone_event_does_not_wait_for_others_for_long() -> None:
    shop, seen = client([accepted(1)])
    with shop, EventQueue(shop, linger_s=0.05) as events:
        began = time.monotonic()
        events.add(EVENT)
        events.flush()
        assert 0.04 < time.monotonic() - began < 2
        assert len(seen) == 1


def test_a_full_queue_says_so_and_never_blocks() -> None:
    def slowly(_: httpx.Request) -> httpx.Response:
        time.sleep(0.2)
        return accepted(1)

    shop = Footfall("http://f", "ff_k", transport=httpx.MockTransport(slowly))
    with shop, EventQueue(shop, most=2, batch=1, linger_s=0) as events:
        began = time.monotonic()
        with pytest.raises(QueueFullError):
            for _ in range(5):
                events.add(EVENT)
        assert time.monotonic() - began < 0.15


def test_what_is_lost_is_told() -> None:
    told: list[tuple[list[str], str]] = []

    def lost(events: Any, why: Any) -> None:
        reason = why.reason if isinstance(why, Rejected) else why.code
        told.append(([event["visitor_id"] for event in events], reason))
        raise RuntimeError("the listener's own trouble")

    rejected = {"index": 1, "field": "country", "reason": "unknown_country", "detail": "no"}
    shop, _ = client(
        [
            httpx.Response(202, json={"accepted": 1, "rejected": [rejected]}),
            httpx.Response(401, json={"code": "revoked_key", "detail": "gone"}),
        ]
    )
    with shop, EventQueue(shop, batch=2, lost=lost) as events:
        for number in range(4):
            events.add({**EVENT, "visitor_id": str(number)})
    assert told == [(["1"], "unknown_country"), (["2", "3"], "revoked_key")]
