"""Each alert asks for what the code tells, and its runbook helps by commands that exist."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from api import telemetry as api_telemetry
from background import supervisor
from tests.operations.test_dashboards import telemetry_names
from tests.processes import ROOT

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
# What Litestar counts, and what the node exporter tells.
OF_OTHERS = {
    "footfall_api_requests_total",
    "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes",
}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_what_is_told(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"\b(?:footfall|node)_\w+", rule["expr"]))
    ours = telemetry_names() | telemetry_names(supervisor)
    ours |= {sample.name for sample in api_telemetry.SPOOL_BYTES.describe()}
    assert asked
    assert asked <= ours | OF_OTHERS


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_links_a_runbook_that_is_whole(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{rule['alert']}.md"
    text = (ROOT / rule["annotations"]["runbook"]).read_text()
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == [
        rule["alert"],
        "Meaning",
        "Impact",
        "Diagnosis",
        "Mitigation",
    ]
    for link in re.findall(r"\]\((\w+\.md)\)", text):
        assert (ROOT / "docs/runbooks" / link).exists(), link
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_no_runbook_is_left_without_its_alert() -> None:
    assert {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} == set(NAMES)


def test_prometheus_asks_every_service_that_tells_something() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for job in config["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            host, port = target.split(":")
            assert host in services
            told = services[host].get("environment", {})
            known = {told.get("FOOTFALL_TELEMETRY_PORT"), told.get("FOOTFALL_API_PORT")}
            assert port in known or host == "node-exporter"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (Debian: prometheus)"
)
def test_prometheus_accepts_the_rules() -> None:
    for words in (
        ("rules", "deploy/prometheus/alerts.yml"),
        ("config", "--syntax-only", "deploy/prometheus/prometheus.yml"),
    ):
        done = subprocess.run(
            ["promtool", "check", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
