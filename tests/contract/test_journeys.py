"""Funnels and retention, each held against a plain walk over the same events."""

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.service import FIREFOX, Service

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - timedelta(days=40)
END = START + timedelta(days=35)
STEPS = ["page_view", "view_item", "add_to_cart", "purchase"]


def wanderings() -> list[dict[str, Any]]:
    """Two hundred visitors who do the steps in any order, some in one instant, over five weeks."""
    dice = random.Random(7)
    events = []
    for visitor in range(200):
        at = START + timedelta(minutes=dice.randrange(35 * 24 * 60))
        for number in range(dice.randrange(1, 9)):
            name = dice.choice(STEPS)
            event: dict[str, Any] = {
                "event": name,
                "event_id": f"{visitor}-{number}",
                "visitor_id": f"v-{visitor}",
                "country": dice.choice(["DE", "JP"]),
                "url": f"https://shop.example/{number % 3}",
                "user_agent": FIREFOX,
                "timestamp": int(at.timestamp() * 1000),
            }
            if name == "purchase":
                event |= {"order_id": f"o-{visitor}-{number}", "value": 5, "currency": "EUR"}
            if at < END:
                events.append(event)
            at += timedelta(minutes=dice.choice([0, 1, 30, 60 * 5, 60 * 30, 60 * 24 * 6]))
    return events


EVENTS = wanderings()


@pytest.fixture(scope="module")
def shop(service: Service) -> int:
    """A shop where they wandered."""
    merchant = service.merchant(timezone="Asia/Kathmandu")
    service.send(merchant, *EVENTS)
    service.wait_for_events(merchant, len(EVENTS))
    return merchant


def ask(service: Service, shop: int, what: str, **body: Any) -> dict[str, Any]:
    answer = service.call("POST", f"/v1/merchants/{shop}/{what}", key=service.key(shop), json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def by_visitor(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Each visitor's events, by time and then as they were sent."""
    found = defaultdict(list)
    for event in events:
        found[event["visitor_id"]].append(event)
    return {name: sorted(of, key=lambda e: e["timestamp"]) for name, of in found.items()}


def depth(events: list[dict[str, Any]], fits: Any, steps: int, window_ms: int) -> int:
    """How many steps a visitor did: every chain of events is tried."""
    best = 0

    def walk(at: int, step: int, began: int) -> None:
        nonlocal best
        best = max(best, step)
        for next_at in range(at, len(events)):
            event = events[next_at]
            if step < steps and fits(step, event):
                first = event["timestamp"] if step == 0 else began
                if event["timestamp"] - first <= window_ms:
                    walk(next_at + 1, step + 1, first)

    walk(0, 0, 0)
    return best


@pytest.mark.parametrize("window", [1, 3600, 86_400, 30 * 86_400])
def test_a_closed_funnel_counts_who_did_every_step_in_order(
    service: Service, shop: int, window: int
) -> None:
    answer = ask(
        service,
        shop,
        "funnel",
        steps=[
            {"event": "page_view"},
            {"event": "view_item", "name": "seen", "filters": [["is", "country", ["DE"]]]},
            {"event": "purchase"},
        ],
        date_range=[START.isoformat(), END.isoformat()],
        window_seconds=window,
    )

    def fits(step: int, event: dict[str, Any]) -> bool:
        name = ["page_view", "view_item", "purchase"][step]
        return event["event"] == name and (step != 1 or event["country"] == "DE")

    depths = [depth(events, fits, 3, window * 1000) for events in by_visitor(EVENTS).values()]
    wanted = [sum(reached > step for reached in depths) for step in range(3)]
    assert [step["visitors"] for step in answer["steps"]] == wanted
    assert wanted[0] > wanted[1] > 0
    assert answer["steps"][1]["name"] == "seen"
    assert answer["steps"][1]["dropped"] == wanted[0] - wanted[1]
    assert answer["steps"][1]["conversion_rate"] == pytest.approx(wanted[1] / wanted[0], abs=1e-6)
    assert answer["meta"]["approximate"] == {}


def test_an_open_funnel_counts_who_did_a_step_and_who_came_to_it(
    service: Service, shop: int
) -> None:
    answer = ask(
        service,
        shop,
        "funnel",
        steps=[{"event": name} for name in STEPS],
        date_range=[START.isoformat(), END.isoformat()],
        kind="open",
    )
    did: list[set[str]] = [set() for _ in STEPS]
    came: list[set[str]] = [set() for _ in STEPS]
    for visitor, events in by_visitor(EVENTS).items():
        for place, event in enumerate(events):
            step = STEPS.index(event["event"])
            did[step].add(visitor)
            for earlier in events[:place]:
                near = event["timestamp"] - earlier["timestamp"] <= 86_400_000
                if step and earlier["event"] == STEPS[step - 1] and near:
                    came[step].add(visitor)
    assert [step["visitors"] for step in answer["steps"]] == [len(each) for each in did]
    wanted = [None, *(len(each) for each in came[1:])]
    assert [step["from_previous"] for step in answer["steps"]] == wanted


def period_of(at: date, interval: str) -> date:
    if interval == "week":
        return at - timedelta(days=at.weekday())
    return at.replace(day=1) if interval == "month" else at


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Pacific/Chatham", "America/New_York"])
@pytest.mark.parametrize("interval", ["day", "week", "month"])
def test_retention_counts_who_came_back(
    service: Service, shop: int, interval: str, zone: str
) -> None:
    first_day = START.date() + timedelta(days=3)  # visitors first seen before it belong to none
    last_day = END.date() + timedelta(days=1)
    answer = ask(
        service,
        shop,
        "retention",
        interval=interval,
        date_range=[first_day.isoformat(), last_day.isoformat()],
        timezone=zone,
    )
    place = ZoneInfo(zone)
    wanted: dict[tuple[date, date], int] = defaultdict(int)
    for events in by_visitor(EVENTS).values():
        days = [datetime.fromtimestamp(e["timestamp"] / 1000, place).date() for e in events]
        if days[0] >= first_day:
            cohort = period_of(days[0], interval)
            for period in {period_of(day, interval) for day in days}:
                wanted[cohort, period] += 1
    starts = [date.fromisoformat(cohort["cohort"][:10]) for cohort in answer["cohorts"]]
    assert starts[0] == period_of(first_day, interval)
    for number, cohort in enumerate(answer["cohorts"]):
        later = [wanted[starts[number], period] for period in starts[number:]]
        assert cohort["visitors"] == later
        assert cohort["size"] == later[0]
        if cohort["size"]:
            assert cohort["rates"][-1] == pytest.approx(later[-1] / later[0], abs=1e-6)
    assert sum(cohort["size"] for cohort in answer["cohorts"]) == sum(
        count for (cohort, period), count in wanted.items() if cohort == period
    )


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("funnel", {"steps": [{"event": "page_view"}]}, "steps"),
        ("funnel", {"steps": [{"event": "page_view"}] * 9}, "steps"),
        ("funnel", {"steps": [{"event": "Page View"}] * 2}, "steps"),
        ("funnel", {"steps": [{"event": "page_view"}] * 2, "window_seconds": 0}, "window_seconds"),
        (
            "funnel",
            {"steps": [{"event": "a", "filters": [["is", "product", ["p"]]]}, {"event": "b"}]},
            "filters",
        ),
        ("retention", {"interval": "day", "date_range": "year"}, "interval"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    service: Service, shop: int, what: str, body: dict[str, Any], field: str
) -> None:
    if body.get("date_range") == "year":
        body["date_range"] = ["2025-01-01", "2025-12-01"]
    answer = service.call("POST", f"/v1/merchants/{shop}/{what}", key=service.key(shop), json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query")
    assert answer.json()["field"] == field
