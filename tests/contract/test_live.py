"""Who is there now, what became of an event, and what can be asked."""

import json
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.processes import wait_until
from tests.service import Service, page_view


def realtime(service: Service, shop: int) -> dict[str, Any]:
    answer = service.call("GET", f"/v1/merchants/{shop}/realtime", key=service.key(shop))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_realtime_counts_the_last_minutes(service: Service, shop: int) -> None:
    now_ms = int(time.time() * 1000)
    ages_s = {"a": 1, "b": 100, "c": 250, "d": 400, "e": 1500, "f": 2400}
    for visitor, age in ages_s.items():
        service.send(
            shop, page_view(visitor_id=visitor, timestamp=now_ms - age * 1000), page_view(
                visitor_id=visitor, timestamp=now_ms - age * 1000, event="view_item"
            )
        )  # fmt: skip
    service.wait_for_events(shop, 12)
    wait_until(
        lambda: sum(m["events"] for m in realtime(service, shop)["minutes"]) == 10,
        5,
        "five visitors were there within thirty minutes",
    )
    answer = realtime(service, shop)
    assert answer["visitors"] == 3
    assert len(answer["minutes"]) == 30
    times = [datetime.fromisoformat(minute["time"]) for minute in answer["minutes"]]
    assert {b - a for a, b in pairwise(times)} == {timedelta(minutes=1)}
    assert times[-1] <= datetime.now(UTC) < times[-1] + timedelta(minutes=2)
    for minute, at in zip(answer["minutes"], times, strict=True):
        begin = at.timestamp() * 1000
        here = [v for v, age in ages_s.items() if begin <= now_ms - age * 1000 < begin + 60_000]
        assert (minute["visitors"], minute["page_views"]) == (len(here), len(here))
        assert (minute["events"], minute["orders"]) == (2 * len(here), 0)


def receipt(service: Service, shop: int, event_id: str, **parameters: Any) -> Any:
    return service.call(
        "GET",
        f"/v1/merchants/{shop}/events/{event_id}",
        key=service.key(shop),
        params=parameters,
    )


def test_a_receipt_tells_what_became_of_an_event(service: Service, shop: int) -> None:
    old = datetime.now(UTC) - timedelta(days=60)
    event = page_view(event_id="once")
    service.send(shop, event, page_view(event_id="old", timestamp=old.isoformat()))
    service.wait_for_events(shop, 2)
    service.send(shop, event)
    broken = {**event, "event_id": "broken", "merchant_id": shop, "timestamp": "yesterday"}
    service.world.write(iter([(str(shop).encode(), json.dumps(broken).encode())]))
    wait_until(lambda: receipt(service, shop, "broken").status_code == 200, 15, "no reject")
    wait_until(
        lambda: len(receipt(service, shop, "once").json()["outcomes"]) == 2, 15, "no duplicate"
    )

    answer = receipt(service, shop, "once").json()
    assert (answer["event_id"], answer["status"]) == ("once", "stored")
    stored, repeated = answer["outcomes"]
    assert (stored["status"], stored["event"], stored["counted"]) == ("stored", "page_view", True)
    assert datetime.fromisoformat(stored["timestamp"]).timestamp() * 1000 == event["timestamp"]
    assert (repeated["status"], repeated["counted"]) == ("duplicate", False)
    assert repeated["partition"] == stored["partition"]
    assert repeated["offset"] > stored["offset"]

    answer = receipt(service, shop, "broken").json()
    assert answer["status"] == "rejected"
    (rejected,) = answer["outcomes"]
    assert (rejected["reason"], rejected["field"]) == ("invalid", "timestamp")

    # an old event is found by its own time, or in a range that holds it
    missing = receipt(service, shop, "old")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_event")
    assert receipt(service, shop, "old", timestamp=old.isoformat()).json()["status"] == "stored"
    assert receipt(service, shop, "old", date_range="90d").json()["status"] == "stored"
    assert receipt(service, shop, "never").json()["code"] == "unknown_event"


def test_the_schema_tells_what_goes_together(service: Service, shop: int) -> None:
    told = service.call("GET", "/v1/schema", key=None).json()
    metrics = {metric["name"]: metric for metric in told["metrics"]}
    assert metrics["revenue"]["adds_up"] is True
    assert metrics["visitors"]["adds_up"] is False
    assert metrics["visitors"]["approximate"] == {"method": "hll", "relative_error": 0.0163}
    assert "midnight UTC" in told["rules"]["sessions"]
    for metric in told["metrics"]:
        assert metric["definition"].endswith(".")
        for dimension in [each["name"] for each in told["dimensions"]]:
            answer = service.call(
                "POST",
                "/v1/query",
                key=service.key(shop),
                json={"metrics": [metric["name"]], "dimensions": [dimension]},
            )
            expected = 200 if dimension in metric["dimensions"] else 400
            assert answer.status_code == expected, (metric["name"], dimension, answer.text)
