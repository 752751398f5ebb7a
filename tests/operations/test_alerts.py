"""Each alert asks for what the code tells, and its runbook helps by commands that exist."""

import re
import shutil
import subprocess
from pathlib import Path
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
    "up",
}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_what_is_told(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"\b(?:footfall|node)_\w+|\bup\b", rule["expr"]))
    ours = telemetry_names() | telemetry_names(supervisor)
    ours |= telemetry_names(api_telemetry)
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


NOBODY: list[tuple[str, str]] = []
ALL_UP = [
    (f'up{{job="{job}",instance="{job}-{number}"}}', "1x200")
    for job in ("ingester", "api")
    for number in (1, 2)
]


def one_down(job: str) -> list[tuple[str, str]]:
    return [(name, "0x200") if f'instance="{job}-1"' in name else (name, value)
            for name, value in ALL_UP]  # fmt: skip


def all_down(job: str) -> list[tuple[str, str]]:
    return [(name, "0x200") if f'job="{job}"' in name else (name, value) for name, value in ALL_UP]


def requests(good: str, bad: str) -> list[tuple[str, str]]:
    name = "footfall_api_requests_total{status_code="
    return [(f'{name}"200"}}', good), (f'{name}"503"}}', bad)]


GOES_ON = "0+60x200"  # a time that is now, sample by sample
# Series of three hours, a sample a minute: with which the alert fires, and with which it does not.
CASES: dict[str, tuple[list[list[tuple[str, str]]], list[list[tuple[str, str]]]]] = {
    "FootfallNotFresh": (
        [[('footfall_shard_applied_until_seconds{shard="0",instance="a"}', "0x200")]],
        [[('footfall_shard_applied_until_seconds{shard="0",instance="a"}', "0x200"),
          ('footfall_shard_applied_until_seconds{shard="0",instance="b"}', GOES_ON)]],
    ),
    "FootfallRollupsNotFresh": (
        [[('footfall_shard_refreshed_until_seconds{shard="0"}', "0x200")]],
        [[('footfall_shard_refreshed_until_seconds{shard="0"}', GOES_ON)]],
    ),
    "FootfallRollupFailing": (
        [[('footfall_shard_failing_rollups{shard="0"}', "1x200")]],
        [[('footfall_shard_failing_rollups{shard="0"}', "0x200")]],
    ),
    "FootfallLagGrowing": (
        [[('footfall_ingest_lag_messages{partition="0"}', "0+100000x200")]],
        [[('footfall_ingest_lag_messages{partition="0"}', "20000000-100000x200")],
         [('footfall_ingest_lag_messages{partition="0"}', "0+10x200")]],
    ),
    "FootfallNoIngester": (
        [NOBODY, all_down("ingester")],
        [[*one_down("ingester"), ('footfall_shard_up{shard="0"}', "1x200")]],
    ),
    "FootfallNoApi": ([NOBODY, all_down("api")], [ALL_UP, one_down("api")]),
    "FootfallProcessDown": ([one_down("ingester"), one_down("api")], [ALL_UP]),
    "FootfallIngestStalled": (
        [[('footfall_ingest_stalled_seconds{shard="0"}', "0+60x200")],
         [("footfall_ingest_polled_timestamp_seconds", "60x200")]],
        [[('footfall_ingest_stalled_seconds{shard="0"}', "5x200"),
          ("footfall_ingest_polled_timestamp_seconds", GOES_ON)]],
    ),
    "FootfallShardAway": (
        [[('footfall_shard_up{shard="0",instance="a"}', "0x200")]],
        [[('footfall_shard_up{shard="0",instance="a"}', "0x200"),
          ('footfall_shard_up{shard="0",instance="b"}', "1x200")]],
    ),
    "FootfallPartitionHalted": (
        [[('footfall_shard_halted_partitions{shard="0"}', "1x200")]],
        [[('footfall_shard_halted_partitions{shard="0"}', "0x200")]],
    ),
    "FootfallRejectRate": (
        [[('footfall_ingest_rejects_total{reason="missing"}', "0+10x200")],
         [('footfall_ingest_rejects_total{reason="missing"}', "0+10x200"),
          ('footfall_ingest_events_total{shard="0"}', "500x200")],
         [('footfall_ingest_rejects_total{reason="missing"}', "0+10x200"),
          ('footfall_ingest_events_total{shard="0"}', "0+300x200")]],
        [[('footfall_ingest_rejects_total{reason="missing"}', "0+1x200"),
          ('footfall_ingest_events_total{shard="0"}', "0+300x200")],
         [('footfall_ingest_rejects_total{reason="missing"}', "5x200"),
          ('footfall_ingest_events_total{shard="0"}', "5x200")]],
    ),
    "FootfallTransformGap": (
        [[("footfall_ingest_transform_gaps_total", "0x80 1x100")],
         [("footfall_ingest_transform_gaps_total", "_x70 3x100")]],
        [[("footfall_ingest_transform_gaps_total", "0x200")],
         [("footfall_ingest_transform_gaps_total", "3x200")]],
    ),
    "FootfallPolicyFailing": (
        [[('footfall_shard_failing_jobs{shard="0"}', "2x200")]],
        [[('footfall_shard_failing_jobs{shard="0"}', "0x200")]],
    ),
    "FootfallDiskFilling": (
        [[('node_filesystem_avail_bytes{instance="a",mountpoint="/",fstype="ext4"}', "10x200"),
          ('node_filesystem_size_bytes{instance="a",mountpoint="/",fstype="ext4"}', "100x200")],
         [('node_filesystem_avail_bytes{instance="a",mountpoint="/",fstype="ext4"}', "90000-99x99"),
          ('node_filesystem_size_bytes{instance="a",mountpoint="/",fstype="ext4"}', "95000x200")]],
        [[('node_filesystem_avail_bytes{instance="a",mountpoint="/",fstype="ext4"}', "50x200"),
          ('node_filesystem_size_bytes{instance="a",mountpoint="/",fstype="ext4"}', "100x200")]],
    ),
    "FootfallSpoolFilling": (
        [[('footfall_api_spool_bytes{instance="a"}', "2e9x200")]],
        [[('footfall_api_spool_bytes{instance="a"}', "1e6x200")]],
    ),
    "FootfallSpoolLeft": (
        [[('footfall_api_left_spool_bytes{instance="a"}', "10x200")]],
        [[('footfall_api_left_spool_bytes{instance="a"}', "0x200")]],
    ),
    "FootfallDeadLetters": (
        [[('footfall_api_dead_letters_total{instance="a"}', "0x80 2x100")],
         [('footfall_api_dead_letters_total{instance="a"}', "_x70 2x100")]],
        [[('footfall_api_dead_letters_total{instance="a"}', "2x200")]],
    ),
    "FootfallTaskFailing": (
        [[('footfall_task_running{instance="a",task="read"}', "0x200")],
         [('footfall_task_failures_total{instance="a",task="read"}', "0+1x200")],
         [('footfall_task_failures_total{instance="a",task="read"}', "_x88 9x100")]],
        [[('footfall_task_running{instance="a",task="read"}', "1x200"),
          ('footfall_task_failures_total{instance="a",task="read"}', "9x200")]],
    ),
    "FootfallErrorBudgetBurning": (
        [requests("0+1000x200", "0+5x200"), requests("0x200", "0+5x200")],
        [requests("0+1000x200", "0x200"), requests("0+100000x200", "0+1x200")],
    ),
    "FootfallVerifyDifferences": (
        [[('footfall_verify_differences{shard="0"}', "3x200")]],
        [[('footfall_verify_differences{shard="0"}', "0x200")]],
    ),
    "FootfallVerifyOverdue": (
        [[('footfall_verify_until_timestamp_seconds{shard="0"}', "-400000x200")]],
        [[('footfall_verify_until_timestamp_seconds{shard="0"}', "-100000x200")]],
    ),
}  # fmt: skip


def test_each_alert_is_tried() -> None:
    assert set(CASES) == set(NAMES)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing (Debian: prometheus)"
)
@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_is_quiet_when_it_should(
    alert: str, tmp_path: Path
) -> None:
    firing, quiet = CASES[alert]
    counted = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0'
    tests = [
        {
            "name": f"{kind} {number}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "promql_expr_test": [
                {
                    "expr": counted,
                    "eval_time": "91m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if kind == "fires" else [],
                }
            ],
        }
        for kind, cases in (("fires", firing), ("is quiet", quiet))
        for number, series in enumerate(cases)
    ]
    file = tmp_path / "alerts_test.yml"
    rules = str(ROOT / "deploy/prometheus/alerts.yml")
    file.write_text(
        yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
