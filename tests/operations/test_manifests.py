"""Kubernetes manifests against Kubernetes' own schemas, units and both against the code."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from footfall.environment import Environment
from tests.operations.documents import why_not_footfall
from tests.processes import ROOT

VERSION = "1.34"
FILES = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
OBJECTS: list[dict[str, Any]] = [
    each for file in FILES for each in yaml.safe_load_all(file.read_text())
]
READ = set(re.findall(r'"(FOOTFALL_\w+)"', (ROOT / "footfall/environment.py").read_text()))
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


def name_of(thing: dict[str, Any]) -> str:
    """Kind and name."""
    return f"{thing['kind']} {thing['metadata']['name']}"


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each container, with the name of what it belongs to."""
    for thing in OBJECTS:
        spec = thing.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            yield from ((name_of(thing), each) for each in template["spec"]["containers"])


@pytest.mark.parametrize("thing", OBJECTS, ids=name_of)
def test_a_manifest_is_what_kubernetes_takes(thing: dict[str, Any]) -> None:
    kubernetes_validate.validate(thing, VERSION, strict=True)


def test_a_misspelt_manifest_would_be_found() -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize(("name", "container"), list(containers()))
def test_a_container_runs_a_command_that_exists_with_variables_that_are_read(
    name: str, container: dict[str, Any]
) -> None:
    assert why_not_footfall(container["args"]) is None
    given = {each["name"]: each.get("value", "1") for each in container.get("env", ())}
    for thing in OBJECTS:
        if thing["kind"] in {"ConfigMap", "Secret"}:
            given |= thing.get("data") or thing["stringData"]
    assert set(given) <= READ
    environment = Environment.read(given)
    assert len(environment.readers()) == len(environment.need_shards()) == 2
    ports = {port["containerPort"] for port in container.get("ports", ())}
    assert ports <= {environment.api_port, environment.telemetry_port}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in container:
            health = "/health/ready" if probe == "readinessProbe" else "/health/live"
            assert container[probe]["httpGet"]["path"] in {"/metrics", health}


def test_each_claim_is_one_that_something_answers() -> None:
    labels = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "StatefulSet"}
    for thing in OBJECTS:
        if thing["kind"] == "Service":
            assert thing["spec"]["selector"]["app"] in labels
        if thing["kind"] == "PodDisruptionBudget":
            assert thing["spec"]["selector"]["matchLabels"]["app"] in labels


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: str(path.name))
def test_a_unit_starts_what_exists(unit: Any) -> None:
    text = unit.read_text()
    (started,) = re.findall(r"^ExecStart=/opt/footfall/bin/footfall (.+)$", text, re.MULTILINE)
    assert why_not_footfall(started.split()) is None
    assert set(re.findall(r"\b(FOOTFALL_\w+)=", text)) <= READ
    for wanted in ("DynamicUser=yes", "EnvironmentFile=/etc/footfall/footfall.env"):
        assert wanted in text


def test_a_timer_starts_a_unit_that_exists() -> None:
    timers = sorted((ROOT / "deploy/systemd").glob("*.timer"))
    assert timers
    for timer in timers:
        assert timer.with_suffix(".service") in UNITS
        assert re.search(r"^OnCalendar=.+ UTC$", timer.read_text(), re.MULTILINE)
        assert "WantedBy=timers.target" in timer.read_text()


def test_every_night_is_verified_alike_whatever_runs_it() -> None:
    (cron,) = (each for each in OBJECTS if each["kind"] == "CronJob")
    (job,) = (container for name, container in containers() if name == "CronJob verify")
    unit = (ROOT / "deploy/systemd/footfall-verify.service").read_text()
    assert f"ExecStart=/opt/footfall/bin/footfall {' '.join(job['args'])}\n" in unit
    assert cron["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0


def test_the_units_environment_is_read() -> None:
    text = (ROOT / "deploy/systemd/footfall.env").read_text()
    given = {
        name: value.strip('"')
        for name, value in re.findall(r"^(FOOTFALL_\w+)=(.*)$", text, re.MULTILINE)
    }
    assert set(given) <= READ
    assert len(Environment.read(given).readers()) == 2
