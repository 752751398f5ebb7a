"""Nothing that fits or misses the published schema makes the API fall over."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service import Service, page_view


@pytest.fixture(scope="module")
def operations(service: Service) -> list[Any]:
    """Every operation of the published document that is under /v1."""
    described = schemathesis.openapi.from_url(f"{service.url}/schema/openapi.json")
    found = [each.ok() for each in described.get_all_operations() if isinstance(each, Ok)]
    found = [each for each in found if each.path.startswith("/v1/")]
    assert len(found) == 15
    return found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_makes_it_fall_over(
    service: Service, operations: list[Any], shop: int, mode: GenerationMode
) -> None:
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and operation.path == "/v1/schema":
            continue  # it takes nothing that could be wrong
        answers_well(operation, mode, service.admin, shop)


def answers_well(operation: Any, mode: GenerationMode, key: str, shop: int) -> None:
    """Whatever is asked of this operation, the answer is no 5xx, and of the shape that the document
    gives for its status; a refusal is a problem."""

    @settings(
        max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        # A random merchant's number is nearly always a 404: half of the questions are of a shop.
        if "merchant_id" in case.path_parameters and "keys" not in operation.path:
            case.path_parameters["merchant_id"] = shop
        answer = case.call(headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            kind = answer.headers["content-type"][0]
            assert kind.startswith("application/problem+json"), (case.as_curl_command(), kind)
        case.validate_response(
            answer,
            checks=[
                response_schema_conformance,
                status_code_conformance,
                content_type_conformance,
            ],
        )

    ask()


QUESTIONS = [
    ("summary", {"compare": "previous_period"}),
    ("timeseries", {"interval": "hour", "date_range": "today", "compare": "previous_period"}),
    ("timeseries", {"metrics": "average_order_value,bounce_rate,visitors"}),
    ("breakdown", {"dimension": "page,country", "limit": "1", "other": "true"}),
    ("breakdown", {"dimension": "page", "metrics": "revenue", "order_by": "-revenue"}),
    ("realtime", {}),
    ("events/e-1", {}),
    ("funnel", {"steps": [{"event": "page_view"}, {"event": "purchase"}], "kind": "open"}),
    ("funnel", {"steps": [{"event": "page_view"}, {"event": "purchase"}]}),
    ("retention", {"interval": "day", "date_range": "7d"}),
]


@pytest.mark.parametrize(("what", "asked"), QUESTIONS, ids=lambda each: str(each)[:40])
def test_answers_are_of_the_shape_that_the_document_gives(
    service: Service, operations: list[Any], told: int, what: str, asked: dict[str, Any]
) -> None:
    ending = "events/{event_id}" if what.startswith("events/") else what
    (operation,) = (each for each in operations if each.path.endswith(f"}}/{ending}"))
    post = operation.method.upper() == "POST"
    case = operation.Case(
        path_parameters={"merchant_id": told, "event_id": "e-1"},
        query=None if post else asked,
        body=asked if post else NOT_SET,
        media_type="application/json" if post else None,
    )
    answer = case.call(headers={"Authorization": f"Bearer {service.key(told)}"})
    assert answer.status_code == 200, answer.text
    case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])


@pytest.fixture(scope="module")
def told(service: Service) -> int:
    """A shop in which a little happened."""
    merchant = service.merchant()
    sale = page_view(event="purchase", event_id="e-2", order_id="o", value="3", currency="EUR")
    service.send(merchant, page_view(event_id="e-1", session_id="s"), {**sale, "session_id": "s"})
    service.wait_for_events(merchant, 2)
    return merchant


def test_the_documentation_page_needs_nothing_from_elsewhere(service: Service) -> None:
    page = httpx.get(f"{service.url}/schema")
    assert page.status_code == 200
    links = [word for word in page.text.replace("'", '"').split('"') if word.startswith("http")]
    outside = [link for link in links if "/schema/" not in link]
    assert not any(link.endswith((".js", ".css", ".png")) for link in outside), outside
    for part in ("swagger-ui-bundle.js", "swagger-ui.css", "swagger-ui-standalone-preset.js"):
        assert f"/schema/assets/{part}" in page.text
        assert httpx.get(f"{service.url}/schema/assets/{part}").status_code == 200
    described = httpx.get(f"{service.url}/schema/openapi.json").json()
    assert described["openapi"].startswith("3.1")
