"""The images of compose.yaml as servers of the tests, where a Docker engine answers.

They listen on loopback alone. An engine elsewhere (`DOCKER_HOST`) is not used: what it starts
cannot be reached there.
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.processes import ROOT, free_port, wait_until

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
KAFKA_IMAGE: str = SERVICES["kafka"]["image"]
TIMESCALE_IMAGE: str = SERVICES["shard-0"]["image"]
WHY_NOT = "no Docker engine answers here: install and start one (Debian: docker.io)"


@cache
def have_engine() -> bool:
    """Whether an engine of this machine answers."""
    docker = shutil.which("docker")
    if docker is None or os.environ.get("DOCKER_HOST", "unix:").partition(":")[0] != "unix":
        return False
    answer = subprocess.run([docker, "info"], capture_output=True, check=False, timeout=30)
    return answer.returncode == 0


def kafka_environment(port: int) -> dict[str, str]:
    """The compose file's settings of a broker that clients reach at this port of this machine."""
    return {
        **SERVICES["kafka"]["environment"],
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_HEAP_OPTS": "-Xmx512m",
    }


def shard_command() -> list[str]:
    """The compose file's server, with its settings, in less memory than a shard's machine has."""
    less = {"shared_buffers": "256MB", "min_wal_size": "80MB", "wal_keep_size": "0"}
    settings = [word for name, value in less.items() for word in ("-c", f"{name}={value}")]
    return [*SERVICES["shard-0"]["command"], *settings]


def shard_files() -> list[tuple[Path, str]]:
    """What the compose file mounts into a shard: the file here, and where it is found there."""
    mounts = [each.split(":") for each in SERVICES["shard-0"]["volumes"]]
    return [(ROOT / source, where) for source, where, *_ in mounts if source.startswith("./")]


@contextmanager
def kafka() -> Iterator[str]:
    """A broker's address."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_envs(**kafka_environment(port))
    container.ports["9092/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]  # docker's own form
    address = f"127.0.0.1:{port}"
    with container:
        wait_until(lambda: _broker_answers(address), 120, "the broker in a container is not ready")
        yield address


@contextmanager
def timescale() -> Iterator[str]:
    """The DSN of a server on which databases may be made."""
    from testcontainers.core.container import DockerContainer

    port, password = free_port(), secrets.token_hex(16)
    container = (
        DockerContainer(TIMESCALE_IMAGE)
        .with_envs(
            POSTGRES_USER="footfall",
            POSTGRES_DB="footfall",
            POSTGRES_PASSWORD=password,
            FOOTFALL_INGEST_PASSWORD=secrets.token_hex(16),
            FOOTFALL_SERVE_PASSWORD=secrets.token_hex(16),
            GRAFANA_DATABASE_PASSWORD=secrets.token_hex(16),
            NO_TS_TUNE="true",
        )
        .with_command(shard_command())
        .with_kwargs(shm_size="256m")
    )
    for file, where in shard_files():
        container.with_volume_mapping(file, where)
    container.ports["5432/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]  # docker's own form
    dsn = f"postgresql://footfall:{password}@127.0.0.1:{port}/footfall"
    with container:
        # The server that makes the data directory listens on no port: who answers is the last one.
        wait_until(lambda: _server_answers(dsn), 120, "the shard in a container is not ready")
        yield dsn


def _broker_answers(address: str) -> bool:
    try:
        AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=2)
    except KafkaException:
        return False
    return True


def _server_answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
