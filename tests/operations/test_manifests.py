"""Kubernetes manifests against Kubernetes' own schemas, units and both against the code."""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from confluent_kafka import Producer
from psycopg.conninfo import conninfo_to_dict

from db.roles import INGEST, SERVE
from footfall.environment import Environment
from tests.operations.documents import why_not_footfall
from tests.processes import ROOT

VERSION = "1.34"
FILES = sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
OBJECTS: list[dict[str, Any]] = [
    each for file in FILES for each in yaml.safe_load_all(file.read_text())
]
OPTION = "FOOTFALL_KAFKA_OPTION_"
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
    for source in container["envFrom"]:
        (named,) = source.values()
        (thing,) = (
            each
            for each in OBJECTS
            if each["kind"] in {"ConfigMap", "Secret"} and each["metadata"]["name"] == named["name"]
        )
        given |= thing.get("data") or thing["stringData"]
    check_settings(given, container["args"][0])
    environment = Environment.read(given)
    ports = {port["containerPort"] for port in container.get("ports", ())}
    assert ports <= {environment.api_port, environment.telemetry_port}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe in container:
            health = "/health/ready" if probe == "readinessProbe" else "/health/live"
            assert container[probe]["httpGet"]["path"] in {"/metrics", health}


def check_settings(given: dict[str, str], command: str) -> None:
    """Read by name, with the role of its own, and every connection encrypted and verified."""
    assert {name for name in given if not name.startswith(OPTION)} <= READ
    environment = Environment.read(given)
    assert len(environment.readers()) == len(environment.need_shards()) == 2
    role = {"migrate": "footfall", "ingest": INGEST, "reprocess": INGEST, "serve": SERVE}[command]
    for dsn in (*environment.shards, *environment.read_shards):
        told = conninfo_to_dict(dsn)
        assert (told["user"], told["sslmode"]) == (role, "verify-full")
        assert str(told["sslrootcert"]).startswith("/etc/footfall/")
    options = dict(environment.kafka_options)
    assert options.pop("ssl.ca.location").startswith("/etc/footfall/")
    assert options["security.protocol"] == "SASL_SSL"
    Producer(options)  # refuses what it does not know


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
    files = re.findall(r"^EnvironmentFile=/etc/footfall/(\w+\.env)$", text, re.MULTILINE)
    given = {
        name: value.strip('"')
        for file in files
        for name, value in re.findall(
            r"^(FOOTFALL_\w+)=(.*)$", (ROOT / "deploy/systemd" / file).read_text(), re.MULTILINE
        )
    }
    check_settings(given, started.split()[0])
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


def test_only_the_ingress_reaches_the_api_and_only_monitoring_its_telemetry() -> None:
    policies = {
        each["spec"]["podSelector"]["matchLabels"]["app"]: [
            (rule["from"][0]["namespaceSelector"]["matchLabels"], rule["ports"])
            for rule in each["spec"]["ingress"]
        ]
        for each in OBJECTS
        if each["kind"] == "NetworkPolicy"
    }
    name = "kubernetes.io/metadata.name"
    watched = ({name: "monitoring"}, [{"port": "telemetry"}])
    assert policies == {
        "api": [({name: "ingress"}, [{"port": "http"}]), watched],
        "ingester": [watched],
    }
    (settings,) = (
        each["data"]
        for each in OBJECTS
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "footfall"
    )
    assert Environment.read(settings).trusted_proxies
