"""Nothing that fits or misses the published schema makes the API fall over."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.service import Service


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_makes_it_fall_over(service: Service, mode: GenerationMode) -> None:
    described = schemathesis.openapi.from_url(f"{service.url}/schema/openapi.json")
    operations = [each.ok() for each in described.get_all_operations() if isinstance(each, Ok)]
    operations = [each for each in operations if each.path.startswith("/v1/")]
    assert len(operations) == 9
    for operation in operations:
        answers_well(operation, mode, service.admin)


def answers_well(operation: Any, mode: GenerationMode, key: str) -> None:
    """Whatever is asked of this operation, the answer is no 5xx, and a refusal is a problem."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            kind = answer.headers["content-type"][0]
            assert kind.startswith("application/problem+json"), (case.as_curl_command(), kind)

    ask()


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
