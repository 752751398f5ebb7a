"""Servers for the tests: real ones where they are named or Docker answers, else the embedded stack.

FOOTFALL_TEST_SHARDS lists DSNs of TimescaleDB servers on which databases may be made and dropped;
FOOTFALL_TEST_KAFKA is the address of a broker on which topics may be made.
"""

import atexit
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from stack.broker import Broker
from stack.database import Database
from tests import containers

_ended_with_us = ExitStack()
atexit.register(_ended_with_us.close)


@contextmanager
def kafka() -> Iterator[str]:
    """A broker's address."""
    given = os.environ.get("FOOTFALL_TEST_KAFKA")
    if given:
        yield given
    elif containers.have_engine():
        with containers.kafka() as address:
            yield address
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
        if not given and containers.have_engine():
            given = [_container()]
        if given:
            servers = [given[number % len(given)] for number in range(count)]
            yield [opened.enter_context(_made_on(server)) for server in servers]
        else:
            yield [opened.enter_context(_embedded()) for _ in range(count)]


@cache
def _container() -> str:
    """One server for all the databases of this process, ended with it."""
    return _ended_with_us.enter_context(containers.timescale())


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
