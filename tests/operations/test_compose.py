"""compose.yaml and Dockerfile, as far as a machine without a container engine can check them."""

import json
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import compose_spec
import httpx
import pytest
import typer.main
import yaml

from db.roles import INGEST, SERVE
from footfall.cli import app
from footfall.environment import Environment
from tests import containers
from tests.processes import ROOT, begin, free_port, wait_until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if each["image"] == "footfall"}
READ = set(re.findall(r'"(FOOTFALL_\w+)"', (ROOT / "footfall/environment.py").read_text()))


def test_it_is_a_compose_file() -> None:
    merged = {key: value for key, value in COMPOSE.items() if not key.startswith("x-")}
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", yaml.safe_dump(merged, sort_keys=False))
    text = re.sub(
        r"@sha256:[0-9a-f]{64}", "", text
    )  # a tag with a digest is unknown to the checker
    known = compose_spec.PyCompose.from_yaml(re.sub(r"\$\{\w+[^}]*\}", "given", text)).services
    assert set(known or {}) == set(SERVICES)
    with pytest.raises(ValueError, match="comand"):
        compose_spec.PyCompose.from_yaml("services: {a: {image: b, comand: c}}")


def test_the_profiles_are_those_that_are_documented() -> None:
    assert {each for service in SERVICES.values() for each in service["profiles"]} == {
        "core",
        "observability",
        "edge",
    }


@pytest.mark.parametrize("name", OURS)
def test_a_command_exists_and_every_variable_is_read(name: str) -> None:
    command, *words = OURS[name]["command"]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    assert command in commands
    known = {option for each in commands[command].params for option in each.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert set(OURS[name]["environment"]) <= READ


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_gets_settings_that_it_can_start_with(name: str) -> None:
    given = {
        key: re.sub(r"\$\{\w+[^}]*\}", "secret", value)
        for key, value in OURS[name]["environment"].items()
    }
    environment = Environment.read(given)
    assert len(environment.need_shards()) == 2
    assert environment.ingest_settings().shards == environment.api_settings().read_shards
    hosts = re.findall(r"@([\w-]+)/", " ".join(environment.shards))
    assert set(hosts) <= set(SERVICES)
    assert environment.need_bootstrap().split(":")[0] in SERVICES


def test_health_checks_ask_ports_and_paths_that_exist() -> None:
    from api import health

    paths = {path for route in (health.live, health.ready) for path in route.paths}
    for name, service in OURS.items():
        asked = re.search(r"127\.0\.0\.1:(\d+)(/[\w/]+)", str(service.get("healthcheck", "")))
        if asked is None:
            assert name == "migrate"
            continue
        port, path = asked.groups()
        environment = Environment.read(service["environment"])
        if name.startswith("api"):
            assert (int(port), path in paths) == (environment.api_port, True)
        else:
            assert (int(port), path) == (environment.telemetry_port, "/metrics")


def test_what_a_service_waits_for_exists_and_can_become_so() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{other} has no health check"


def test_files_that_are_mounted_exist_and_volumes_are_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            elif not source.startswith(("/", "$")):
                assert source in COMPOSE["volumes"], source


def test_secrets_have_no_default_and_stand_in_the_example() -> None:
    text = (ROOT / "compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)", text))
    example = set(re.findall(r"^(\w+)=", (ROOT / "deploy/compose.env").read_text(), re.MULTILINE))
    assert named == example
    assert not re.findall(r"\$\{\w*PASSWORD:-", text)


def test_nothing_is_published_beyond_this_machine_unless_it_is_asked_for() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${FOOTFALL_PUBLIC_ADDRESS:-127.0.0.1:")), port


def test_the_servers_are_those_that_the_tests_use() -> None:
    parts = json.loads((ROOT / "stack/kafka.lock.json").read_text())
    (embedded,) = [each["version"] for each in parts if each["artifact"] == "kafka_2.13"]
    assert SERVICES["kafka"]["image"].partition("@")[0] == f"apache/kafka:{embedded}"
    assert SERVICES["shard-0"]["image"] == SERVICES["shard-1"]["image"]


def test_every_image_of_others_is_pinned_by_digest() -> None:
    named = [each["image"] for each in SERVICES.values() if "build" not in each]
    for file in ("Dockerfile", "edge/fluentd.Dockerfile"):
        named += re.findall(r"^FROM (\S+)", (ROOT / file).read_text(), re.MULTILINE)
    assert len(named) > 8
    for image in named:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image


def test_the_proxy_reaches_the_api_and_nothing_else() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    with_proxy = {name for name, joined in networks.items() if joined & networks["proxy"]}
    assert with_proxy == {"proxy", "api-1", "api-2"}
    for name in ("kafka", "shard-0", "shard-1", "migrate"):
        assert networks[name] == {"back"}
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert set().union(*networks.values()) == set(COMPOSE["networks"])


def test_the_api_believes_the_address_that_the_proxy_has() -> None:
    (address,) = (each["ipv4_address"] for each in SERVICES["proxy"]["networks"].values())
    (subnet,) = (each["subnet"] for each in COMPOSE["networks"]["front"]["ipam"]["config"])
    assert ip_address(address) in ip_network(subnet)
    for name in ("api-1", "api-2"):
        environment = Environment.read(OURS[name]["environment"])
        assert environment.trusted_proxies == (address,)


@pytest.mark.parametrize("name", OURS)
def test_each_process_has_its_own_role(name: str) -> None:
    roles = {"migrate": "footfall", "ingest": INGEST, "serve": SERVE}
    users = set(re.findall(r"//(\w+):", OURS[name]["environment"]["FOOTFALL_SHARDS"]))
    assert users == {roles[OURS[name]["command"][0]]}
    assert all(role in (ROOT / "deploy/database/roles.sh").read_text() for role in (INGEST, SERVE))


def test_the_containers_of_the_tests_are_told_what_the_compose_file_tells_them() -> None:
    told, tested = SERVICES["kafka"]["environment"], containers.kafka_environment(19092)
    assert told.keys() == tested.keys()
    changed = {name for name in told if told[name] != tested[name]}
    assert changed == {
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_CONTROLLER_QUORUM_VOTERS",
        "KAFKA_HEAP_OPTS",
    }
    command = containers.shard_command()
    assert command[: len(SERVICES["shard-0"]["command"])] == SERVICES["shard-0"]["command"]
    settings = (ROOT / "deploy/database/postgresql.conf").read_text()
    for word in command[4::2]:
        assert re.search(rf"^{word.partition('=')[0]} =", settings, re.MULTILINE), word
    mounted = dict(containers.shard_files())
    assert mounted[ROOT / "deploy/database/postgresql.conf"] in " ".join(command)
    assert all(file.exists() for file in mounted)


def test_the_dockerfile_is_clean_runs_as_nobody_and_installs_by_the_lock() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = subprocess.run(
        [linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
    text = (ROOT / "Dockerfile").read_text()
    last = text.rindex("\nFROM")
    assert "\nUSER 10001" in text[last:]
    assert "--require-hashes requirements.runtime.lock" in text[:last]


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages <= kept
    assert {"pyproject.toml", "requirements.runtime.lock", "README.md", "LICENSE"} <= kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_runtime_lock_is_part_of_the_lock() -> None:
    pins = [
        set(re.findall(r"^(\S+==\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.runtime.lock", "requirements.lock")
    ]
    assert pins[0] < pins[1]


def test_the_proxy_knows_both_workers_and_asks_their_health() -> None:
    text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
    servers = re.findall(r"^\s+server (\S+) (\S+):(\d+)$", text, re.MULTILINE)
    assert [name for name, *_ in servers] == [name for name in OURS if name.startswith("api")]
    for name, host, port in servers:
        assert (host, port) == (name, OURS[name]["environment"]["FOOTFALL_API_PORT"])
    assert "httpchk GET /health/ready" in text


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is missing (Debian: haproxy)")
def test_haproxy_accepts_its_file() -> None:
    file = ROOT / "deploy/haproxy/haproxy.cfg"
    done = subprocess.run(
        ["haproxy", "-c", "-f", file], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 2), done.stderr  # 2: well, but names resolve only in the engine


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's headers."""

    def do_GET(self) -> None:
        """Whatever the path."""
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its parent's name
        """Nothing."""


@contextmanager
def echoing() -> Iterator[int]:
    """The port of a server that echoes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is missing (Debian: haproxy)")
def test_the_proxy_replaces_forwarded_addresses_logs_no_query_and_limits_connections(
    tmp_path: Path,
) -> None:
    with echoing() as behind:
        port, file = free_port(), tmp_path / "haproxy.cfg"
        text = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()
        text = text.replace("bind :8080", f"bind 127.0.0.1:{port}")
        text = re.sub(r"(server api-\d) \S+", rf"\1 127.0.0.1:{behind}", text)
        file.write_text(text)
        proxy = begin(["haproxy", "-db", "-f", str(file)], {})
        try:

            def answers() -> bool:
                try:
                    return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(answers, 30, "\n".join(proxy.lines))
            answer = httpx.get(
                f"http://127.0.0.1:{port}/v1/events?key=not-for-logs",
                headers=[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "203.0.113.8")],
            )
            assert httpx.Headers(answer.json())["X-Forwarded-For"] == "127.0.0.1"
            proxy.wait_for("GET /v1/events HTTP/1.1")
            assert "not-for-logs" not in "\n".join(proxy.lines)
            with ExitStack() as stack:
                opened = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
                    for _ in range(150)
                ]
                time.sleep(0.5)
                closed = select.select(opened, [], [], 0)[0]  # by the proxy
                assert len(closed) == 50
        finally:
            proxy.close()
