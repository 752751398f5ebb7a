"""Answers as CSV, NDJSON and Arrow: the same numbers as the JSON answer's, and all of the rows."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.service import Service, page_view

ARROW = "application/vnd.apache.arrow.stream"
KINDS = ["text/csv", "application/x-ndjson", ARROW]
PAGES = 12_000  # more than fit in one answer, and in one piece of a file
DAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
RANGE = [(DAY - timedelta(days=1)).date().isoformat(), (DAY + timedelta(days=2)).date().isoformat()]


@pytest.fixture(scope="module")
def shop(service: Service) -> int:
    """A shop with many pages, one of which has a name that CSV must quote, and two orders."""
    merchant = service.merchant(timezone="Asia/Kathmandu")
    at = int(DAY.timestamp() * 1000)
    events = [
        page_view(url=f"https://shop.example/{n:05}", timestamp=at + n, visitor_id=f"v{n % 9}")
        for n in range(PAGES)
    ]
    events.append(page_view(url='https://shop.example/a,"b"', timestamp=at, country="DE"))
    events += [
        page_view(
            event="purchase", order_id=f"o{n}", value="19.99", currency="EUR", timestamp=at + n,
            url="https://shop.example/thanks",
        )
        for n in range(2)
    ]  # fmt: skip
    for start in range(0, len(events), 5000):
        service.send(merchant, *events[start : start + 5000])
    service.wait_for_events(merchant, len(events))
    service.wait_until_fresh(merchant)
    return merchant


def asked(service: Service, shop: int, kind: str, **body: Any) -> httpx.Response:
    answer = service.call(
        "POST",
        "/v1/query",
        key=service.key(shop),
        json={"date_range": RANGE, **body},
        headers={"Accept": kind},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].split(";")[0] == kind
    return answer


def rows_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The rows of a file of any kind."""
    kind = answer.headers["content-type"].split(";")[0]
    if kind == ARROW:
        rows: list[dict[str, Any]] = pa.ipc.open_stream(answer.content).read_all().to_pylist()
        return rows
    if kind == "text/csv":
        return list(csv.DictReader(io.StringIO(answer.text)))
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_all_rows_once_and_in_order(service: Service, shop: int, kind: str) -> None:
    answer = asked(
        service, shop, kind, metrics=["events"], dimensions=["page"], order_by=[["page", "asc"]]
    )
    rows = rows_of(answer)
    pages = sorted([*(f"/{n:05}" for n in range(PAGES)), "/thanks", '/a,"b"'])
    assert sorted(row["page"] for row in rows) == pages
    assert sum(int(row["events"]) for row in rows) == PAGES + 3
    first = [row for row in rows if row["page"].startswith("/0")]
    assert [row["page"] for row in first] == pages[: len(first)]
    assert answer.headers["footfall-truncated"] == "false"
    assert datetime.fromisoformat(answer.headers["footfall-fresh-as-of"]) > DAY


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_with_money_and_comparison_is_the_json_answers(
    service: Service, shop: int, kind: str
) -> None:
    body: dict[str, Any] = {
        "metrics": ["events", "revenue", "conversion_rate"],
        "dimensions": ["time:day"],
        "include": {"comparison": "previous_period"},
    }
    wanted = service.ask(shop, date_range=RANGE, **body)["rows"]
    assert sum(Decimal(row["revenue"]["amount"]) for row in wanted) == Decimal("39.98")
    rows = rows_of(asked(service, shop, kind, **body))
    assert len(rows) == len(wanted) == 3
    for row, right in zip(rows, wanted, strict=True):
        if kind == "application/x-ndjson":
            assert row == right
            continue
        time = row["time"] if kind == "text/csv" else row["time"].isoformat()
        assert time == right["time"]
        assert int(row["events"]) == right["events"]
        assert Decimal(row["revenue"]) == Decimal(right["revenue"]["amount"])
        assert row["currency"] == "EUR"
        assert row["conversion_rate"] in ("", None)
        assert int(row["events_before"]) == right["comparison"]["events"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_and_the_rest_go_into_a_file_too(service: Service, shop: int, kind: str) -> None:
    answer = asked(
        service,
        shop,
        kind,
        metrics=["events"],
        dimensions=["page"],
        limit=3,
        include={"other": True},
    )
    rows = rows_of(answer)
    assert [row["page"] for row in rows][-1] == "(other)"
    assert sum(int(row["events"]) for row in rows) == PAGES + 3
    assert answer.headers["footfall-truncated"] == "true"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_nothing_is_a_file(service: Service, shop: int, kind: str) -> None:
    answer = asked(
        service,
        shop,
        kind,
        metrics=["events"],
        dimensions=["page"],
        filters=[["is", "page", ["/none"]]],
    )
    assert rows_of(answer) == []
    assert "Nothing in this range" in answer.headers["footfall-warnings"]


def test_breakdown_and_timeseries_are_files_as_well(service: Service, shop: int) -> None:
    for path in ("breakdown?dimension=country&", "timeseries?interval=hour&"):
        answer = service.call(
            "GET",
            f"/v1/merchants/{shop}/{path}metrics=events&from={RANGE[0]}&to={RANGE[1]}",
            key=service.key(shop),
            headers={"Accept": "text/csv;q=0.9, text/html;q=0.1"},
        )
        assert answer.headers["content-type"].startswith("text/csv"), answer.text
        assert sum(int(row["events"]) for row in rows_of(answer)) == PAGES + 3


def test_arrow_bears_types_and_what_is_said_of_the_answer(service: Service, shop: int) -> None:
    answer = asked(
        service, shop, ARROW, metrics=["events", "revenue"], dimensions=["time:day", "country"]
    )
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.field("time").type == pa.timestamp("us", tz="Asia/Kathmandu")
    assert table.schema.field("revenue").type == pa.decimal128(38, 2)
    assert table.schema.field("events").type == pa.int64()
    assert json.loads(table.schema.metadata[b"footfall"])["source"] == "raw"


def test_a_file_of_all_rows_holds_no_comparison(service: Service, shop: int) -> None:
    answer = service.call(
        "POST",
        "/v1/query",
        key=service.key(shop),
        json={
            "metrics": ["events"],
            "dimensions": ["page"],
            "include": {"comparison": "previous_period"},
        },
        headers={"Accept": "text/csv"},
    )
    assert (answer.status_code, answer.json()["field"]) == (400, "include")
