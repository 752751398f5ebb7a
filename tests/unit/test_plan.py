"""Which relation answers which question."""

from datetime import UTC, datetime
from typing import Any

import pytest
from litestar.plugins.problem_details import ProblemDetailsException

from api.query.catalogue import DIMENSIONS, METRICS
from api.query.language import QueryBody, Question, understand
from api.query.plan import plan
from api.query.sql import select

NOW = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
WEEK = ["2026-09-01", "2026-09-08"]


def question(metrics: str = "events", **asked: Any) -> Question:
    """A question of merchant 7, in UTC unless it says otherwise."""
    body = QueryBody(metrics=metrics.split(), **{"date_range": WEEK, **asked})
    return understand(body, 7, "UTC", "EUR", NOW)


def relations(asked: Question) -> list[str]:
    """What answers it."""
    return [reading.relation for reading in plan(asked).readings]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (question(), ["traffic_daily"]),
        (question("orders revenue units"), ["traffic_daily"]),
        (question(dimensions=["time:day"]), ["traffic_daily"]),
        (question(dimensions=["time:hour"]), ["traffic_hourly"]),
        (question(dimensions=["time:minute"], date_range=["2026-09-01", "2026-09-02"]), ["events"]),
        (question(dimensions=["event"]), ["traffic_daily"]),
        (question(dimensions=["page"]), ["page_daily"]),
        (question(dimensions=["product"]), ["product_daily"]),
        (question(dimensions=["source", "channel"]), ["source_daily"]),
        (question(dimensions=["campaign"]), ["source_daily"]),
        (question(dimensions=["country"]), ["place_daily"]),
        (question(dimensions=["device", "os"]), ["device_daily"]),
        (question(filters=[["is", "device", ["bot"]]]), ["device_daily"]),
        (question(filters=[["is", "country", ["DE"]]]), ["place_daily"]),
        (question(dimensions=["page", "country"]), ["events"]),
        (question("visitors"), ["visitor_daily"]),
        (question("visitors", dimensions=["time:day"]), ["visitor_daily"]),
        (question("visitors", dimensions=["time:hour"]), ["visitor_hourly"]),
        (question("visitors", dimensions=["country"]), ["events"]),
        (question("sessions bounce_rate"), ["session_summary_daily"]),
        (question("sessions", dimensions=["browser"]), ["session_daily"]),
        (
            question("events visitors sessions"),
            ["traffic_daily", "session_summary_daily", "visitor_daily"],
        ),
        # days of a zone at a whole hour's offset are hours of ours, others are none of them
        (question(timezone="Europe/Berlin"), ["traffic_hourly"]),
        (question(timezone="Asia/Kathmandu"), ["events"]),
        (question("visitors", timezone="Asia/Kolkata"), ["events"]),
        (question("sessions", timezone="Asia/Kathmandu"), ["session_summary_daily"]),
        (question(date_range=["2026-09-01T00:00:00Z", "2026-09-01T05:00:00Z"]), ["traffic_hourly"]),
        (question(date_range=["2026-09-01T00:00:01Z", "2026-09-01T05:00:00Z"]), ["events"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_narrowest_relation_that_can_answer_does(asked: Question, wanted: list[str]) -> None:
    assert relations(asked) == wanted


def test_the_source_is_the_finest_of_what_was_read() -> None:
    assert plan(question("events sessions")).source == "daily"
    assert plan(question("events", dimensions=["time:hour"])).source == "hourly"
    assert plan(question("events visitors", dimensions=["country"])).source == "raw"


def test_no_value_of_a_question_is_in_its_sql() -> None:
    evil = "x'; DROP TABLE events; --"
    asked = question(filters=[["contains", "page", [evil]]], timezone="Europe/Berlin")
    statement = select(asked, plan(asked))
    assert evil not in statement.text
    assert [evil] in statement.parameters


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_statement(metric: str) -> None:
    asked = question(metric, dimensions=["time:day"])
    assert metric in select(asked, plan(asked)).text


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"metrics": "visitor"}, "unknown_metric"),
        ({"metrics": ""}, "invalid_query"),
        ({"metrics": "events events"}, "invalid_query"),
        ({"dimensions": ["colour"]}, "unknown_dimension"),
        ({"dimensions": ["time:year"]}, "unknown_dimension"),
        ({"dimensions": ["time:day", "time:hour"]}, "invalid_query"),
        ({"date_range": "9d"}, "unknown_date_range"),
        ({"date_range": ["2026-09-08", "2026-09-01"]}, "invalid_query"),
        ({"date_range": ["2026-09-01"]}, "invalid_query"),
        ({"date_range": ["2020-01-01", "2026-01-01"]}, "invalid_query"),
        ({"date_range": ["2026-13-01", "2027-01-01"]}, "invalid_query"),
        ({"date_range": ["2026-09-01T00:00:00", "2026-09-02T00:00:00"]}, "invalid_query"),
        ({"timezone": "Mars/Base"}, "unknown_timezone"),
        ({"currency": "EURO"}, "unknown_currency"),
        ({"limit": 0}, "invalid_query"),
        ({"cursor": "x"}, "invalid_query"),
        ({"filters": [["like", "page", "x"]]}, "unknown_operator"),
        ({"filters": [["is", "colour", "x"]]}, "unknown_dimension"),
        ({"filters": ["is"]}, "invalid_query"),
        ({"filters": [["is", "page", []]]}, "invalid_query"),
        ({"order_by": [("page", "asc")]}, "invalid_query"),
        ({"metrics": "sessions", "dimensions": ["page"]}, "invalid_query"),
        ({"metrics": "visitors", "dimensions": ["product"]}, "invalid_query"),
        ({"dimensions": ["time:minute"], "date_range": "28d"}, "invalid_query"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_code(asked: dict[str, Any], code: str) -> None:
    with pytest.raises(ProblemDetailsException) as refused:
        question(**asked)
    assert isinstance(refused.value.extra, dict)
    assert refused.value.extra["code"] == code


def test_every_dimension_is_one_of_the_contracts() -> None:
    assert set(DIMENSIONS) == {
        "event", "page", "product", "source", "channel", "campaign", "country", "device",
        "browser", "os",
    }  # fmt: skip
