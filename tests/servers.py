"""Servers for the tests: real ones where they are named or Docker answers, else the embedded stack.

FOOTFALL_TEST_SHARDS lists DSNs of TimescaleDB servers on which databases may be made and dropped;
FOOTFALL_TEST_KAFKA is the address of a broker on which topics may be made.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from stack.broker import Broker
from stack.database import Database

TIMESCALE_IMAGE = "timescale/timescaledb:2.29.2-pg17"
KAFKA_IMAGE = "apache/kafka:4.3.1"


def have_docker() -> bool:
    """Whether a Docker engine answers."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    answer = subprocess.run([docker, "info"], capture_output=True, check=False, timeout=30)
    return answer.returncode == 0


@contextmanager
def kafka() -> Iterator[str]:
    """A broker's address."""
    given = os.environ.get("FOOTFALL_TEST_KAFKA")
    if given:
        yield given
    elif have_docker():
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer(KAFKA_IMAGE).with_kraft() as container:
            yield container.get_bootstrap_server()
    else:
        with tempfile.TemporaryDirectory(prefix="footfall-kafka-") as folder:
            broker = Broker(Path(folder))
            broker.start()
            try:
                yield broker.bootstrap
            finally:
                broker.stop()


@contextmanager
def shards(count: int) -> Iterator[list[str]]:
    """DSNs of so many empty databases."""
    with ExitStack() as opened:
        given = os.environ.get("FOOTFALL_TEST_SHARDS", "").split()
        if not given and have_docker():
            from testcontainers.postgres import PostgresContainer

            container = opened.enter_context(PostgresContainer(TIMESCALE_IMAGE, driver=None))
            given = [container.get_connection_url()]
        if given:
            servers = [given[number % len(given)] for number in range(count)]
            yield [opened.enter_context(_made_on(server)) for server in servers]
        else:
            yield [opened.enter_context(_embedded()) for _ in range(count)]


@contextmanager
def _made_on(server: str) -> Iterator[str]:
    """A database of our own on a real server, dropped at the end."""
    name = f"footfall_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )


@contextmanager
def _embedded() -> Iterator[str]:
    database = Database()
    database.start()
    try:
        yield database.dsn
    finally:
        database.stop()
