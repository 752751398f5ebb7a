"""Pages, the rest, totals, comparison and warnings: what stands beside the rows of an answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.service import Service, page_view

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 6
FIRST = TODAY - timedelta(days=2 * DAYS)  # six days, and then six days more


def views() -> list[dict[str, Any]]:
    """Page n is seen n times a day by n visitors, twice as often in the second half; and bought
    from on some days."""
    events = []
    for day in range(2 * DAYS):
        for page in range(1, 8):
            times = page * (2 if day >= DAYS else 1)
            if day == 8 and page != 7:
                continue  # a day on which only one page was seen
            for number in range(times):
                at = FIRST + timedelta(days=day, hours=1, seconds=number)
                events.append(
                    page_view(
                        event_id=f"{day}-{page}-{number}",
                        visitor_id=f"v{number}",
                        session_id=f"s-{day}-{page}-{number}",
                        url=f"https://shop.example/{page}",
                        country="DE" if page % 2 else "FR",
                        timestamp=int(at.timestamp() * 1000),
                    )
                )
    return events


EVENTS = views()
SECOND = [TODAY - timedelta(days=DAYS), TODAY]
RANGE = [each.date().isoformat() for each in SECOND]


def within(start: datetime, end: datetime) -> list[dict[str, Any]]:
    return [
        e for e in EVENTS if start.timestamp() * 1000 <= e["timestamp"] < end.timestamp() * 1000
    ]


NOW = within(*SECOND)
BEFORE = within(FIRST, SECOND[0])


@pytest.fixture(scope="module")
def shop(service: Service) -> int:
    """A shop with those views."""
    merchant = service.merchant()
    service.send(merchant, *EVENTS)
    service.wait_for_events(merchant, len(EVENTS))
    service.wait_until_fresh(merchant)
    return merchant


def page_of(event: dict[str, Any]) -> str:
    return str(event["url"]).removeprefix("https://shop.example")


ORDERS = [
    [],
    [["page", "asc"]],
    [["page", "desc"]],
    [["visitors", "asc"]],
    [["events", "desc"], ["page", "desc"]],
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("dimensions", [["page"], ["time:day", "page"], ["time:day"]], ids=str)
def test_pages_join_to_the_whole_in_every_order(
    service: Service, shop: int, dimensions: list[str], order: list[list[str]]
) -> None:
    if dimensions == ["time:day"]:
        order = [each for each in order if each[0] != "page"]
    asked = {
        "metrics": ["events", "visitors"],
        "dimensions": dimensions,
        "date_range": RANGE,
        "order_by": order,
    }
    whole = service.ask(shop, **asked, limit=1000)
    assert whole["next_cursor"] is None
    assert whole["meta"]["truncated"] is False
    parts, cursor = [], None
    while True:
        answer = service.ask(shop, **asked, limit=3, cursor=cursor)
        parts += answer["rows"]
        cursor = answer["next_cursor"]
        assert answer["meta"]["truncated"] is (cursor is not None)
        if cursor is None:
            break
    assert parts == whole["rows"]


def test_a_cursor_goes_on_behind_its_row_when_rows_appear_before_it(service: Service) -> None:
    merchant = service.merchant()
    service.send(merchant, *(page_view(url=f"https://shop.example/{n}") for n in "bdfh"))
    service.wait_for_events(merchant, 4)
    asked = {
        "metrics": ["events"],
        "dimensions": ["page"],
        "order_by": [["page", "asc"]],
        "limit": 2,
    }
    first = service.ask(merchant, **asked)
    service.send(merchant, *(page_view(url=f"https://shop.example/{n}") for n in "aceg"))
    service.wait_for_events(merchant, 8)
    then = service.ask(merchant, **asked, cursor=first["next_cursor"])
    assert [row["page"] for row in first["rows"] + then["rows"]] == ["/b", "/d", "/e", "/f"]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "", "W10=", "2"])
def test_a_cursor_that_was_not_given_out_is_refused(
    service: Service, shop: int, cursor: str
) -> None:
    body = {"metrics": ["events"], "dimensions": ["page"], "cursor": cursor}
    answer = service.call("POST", "/v1/query", key=service.key(shop), json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, "cursor")


def test_a_cursor_of_another_question_is_refused(service: Service, shop: int) -> None:
    cursor = service.ask(shop, metrics=["events"], dimensions=["page"], limit=1)["next_cursor"]
    body = {"metrics": ["events"], "dimensions": ["country"], "cursor": cursor}
    answer = service.call("POST", "/v1/query", key=service.key(shop), json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, "cursor")


@pytest.mark.parametrize("metrics", [["events", "page_views"], ["events", "visitors"]], ids=str)
def test_what_the_limit_leaves_out_is_a_row_so_that_counts_add_up(
    service: Service, shop: int, metrics: list[str]
) -> None:
    answer = service.ask(
        shop,
        metrics=metrics,
        dimensions=["page"],
        date_range=RANGE,
        limit=2,
        include={"other": True, "totals": True},
    )
    *shown, other = answer["rows"]
    assert [row["page"] for row in shown] == ["/7", "/6"]
    rest = [e for e in NOW if page_of(e) not in ("/7", "/6")]
    assert other["page"] == "(other)"
    assert other["events"] == len(rest)
    assert sum(row["events"] for row in answer["rows"]) == answer["totals"]["events"] == len(NOW)
    if "visitors" in metrics:  # estimated from all of their registers, not added up
        assert other["visitors"] == len({e["visitor_id"] for e in rest})
        assert answer["totals"]["visitors"] == len({e["visitor_id"] for e in NOW})


def test_the_rest_of_session_metrics_is_a_ratio_of_its_own(service: Service, shop: int) -> None:
    answer = service.ask(
        shop,
        metrics=["sessions", "views_per_session"],
        dimensions=["country"],
        date_range=RANGE,
        limit=1,
        include={"other": True},
    )
    assert [row["country"] for row in answer["rows"]] == ["DE", "(other)"]
    assert answer["rows"][1]["views_per_session"] == 1
    assert sum(row["sessions"] for row in answer["rows"]) == len(NOW)


def test_totals_are_of_all_rows_whatever_the_page(service: Service, shop: int) -> None:
    asked = {
        "metrics": ["events", "visitors"],
        "dimensions": ["page"],
        "date_range": RANGE,
        "limit": 2,
        "include": {"totals": True},
    }
    first = service.ask(shop, **asked)
    second = service.ask(shop, **asked, cursor=first["next_cursor"])
    wanted = {"events": len(NOW), "visitors": len({e["visitor_id"] for e in NOW})}
    assert first["totals"] == second["totals"] == wanted


def test_each_row_is_beside_its_own_of_the_period_before(service: Service, shop: int) -> None:
    pages = service.ask(
        shop,
        metrics=["events"],
        dimensions=["page"],
        date_range=RANGE,
        include={"comparison": "previous_period"},
    )
    for row in pages["rows"]:
        now = sum(page_of(e) == row["page"] for e in NOW)
        then = sum(page_of(e) == row["page"] for e in BEFORE)
        assert (row["events"], row["comparison"]["events"]) == (now, then)
        assert row["change_percent"]["events"] == pytest.approx(100 * (now - then) / then, abs=0.01)
    assert pages["comparison"]["totals"] == {"events": len(BEFORE)}


def test_a_series_is_compared_bucket_by_bucket(service: Service, shop: int) -> None:
    # The day on which little was seen has a full one before it; days to come have days behind them.
    start, end = TODAY - timedelta(days=3), TODAY + timedelta(days=3)
    answer = service.ask(
        shop,
        metrics=["events", "visitors"],
        dimensions=["time:day"],
        date_range=[start.date().isoformat(), end.date().isoformat()],
        include={"comparison": "previous_period", "totals": True},
    )
    assert len(answer["rows"]) == 6
    for number, row in enumerate(answer["rows"]):
        day = start + timedelta(days=number)
        now = within(day, day + timedelta(days=1))
        then = within(day - timedelta(days=6), day - timedelta(days=5))
        assert row["events"] == len(now)
        assert row["comparison"]["events"] == len(then)
        assert row["comparison"]["visitors"] == len({e["visitor_id"] for e in then})
    assert answer["totals"]["events"] == len(within(start, end))
    assert answer["comparison"]["totals"]["events"] == len(within(FIRST + timedelta(days=3), start))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"filters": [["is", "device", ["phone"]]]}, "No event has the device 'phone': there are"),
        ({"filters": [["is", "country", ["de"]]]}, "No event has the country 'de'."),
        ({"filters": [["is", "page", ["/none"]]]}, "Nothing in this range matches the filters."),
        ({"filters": [["is", "page", ["/1"]], ["is", "country", ["DE"]]],
          "date_range": ["2024-06-01", "2025-01-01"]}, "kept for 365 days"),
        ({"date_range": ["2100-01-01", "2100-01-02"]}, "This range lies in the future."),
    ],
)  # fmt: skip
def test_a_zero_that_would_mislead_bears_a_warning(
    service: Service, shop: int, asked: dict[str, Any], words: str
) -> None:
    answer = service.ask(shop, **{"metrics": ["events"], **asked})
    assert answer["rows"] == [{"events": 0}]
    assert any(words in warning for warning in answer["meta"]["warnings"]), answer["meta"]


def test_no_warning_without_a_reason(service: Service, shop: int) -> None:
    answer = service.ask(shop, metrics=["events"], filters=[["is", "country", ["DE"]]])
    assert answer["meta"]["warnings"] == []
