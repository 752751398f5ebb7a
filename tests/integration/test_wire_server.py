"""The embedded database, spoken to by the clients that Footfall and people use."""

import asyncio
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from stack.database import Database


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """An embedded database of its own, with a table in it."""
    database = Database()
    database.start()
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int4, word text)")
    yield database.dsn
    database.stop()


@pytest.fixture(autouse=True)
def empty(dsn: str) -> None:
    """Each test starts with an empty table, and thereby with a session that is free."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE t")


def count(dsn: str) -> int:
    """Rows of the table, as another client sees them."""
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
    assert row is not None
    return int(row[0])


async def test_copy_both_ways_with_asyncpg(dsn: str, tmp_path: object) -> None:
    connection = await asyncpg.connect(dsn)
    rows = [(number, f"word {number}") for number in range(5000)]
    assert await connection.copy_records_to_table("t", records=rows) == "COPY 5000"
    gathered = bytearray()

    async def keep(part: bytes) -> None:
        gathered.extend(part)

    await connection.copy_from_query("SELECT * FROM t ORDER BY id", output=keep)
    assert gathered.decode().splitlines()[4999] == "4999\tword 4999"
    await connection.close()


def test_copy_both_ways_with_psycopg(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        cursor = connection.cursor()
        with cursor.copy("COPY t (id, word) FROM STDIN") as copy:
            copy.write_row((1, "tab\there"))
            copy.write_row((2, None))
        with cursor.copy("COPY t TO STDOUT") as copy:
            assert list(copy.rows()) == [("1", "tab\there"), ("2", None)]


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_psql(dsn: str) -> None:
    done = subprocess.run(
        ["psql", dsn, "-Atc", "INSERT INTO t VALUES (1, 'x') RETURNING word"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0] == "x"


async def test_transactions_take_turns(dsn: str) -> None:
    first, second = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    transaction = first.transaction()
    await transaction.start()
    await first.execute("INSERT INTO t VALUES (1, 'a')")
    waiting = asyncio.create_task(second.fetchval("SELECT count(*) FROM t"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await transaction.commit()
    assert await waiting == 1
    await first.close()
    await second.close()


async def test_prepared_statements_are_each_connections_own(dsn: str) -> None:
    first, second = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    one = await first.prepare("SELECT $1::int4 + 1")
    other = await second.prepare("SELECT $1::text || '!'")
    assert (await one.fetchval(1), await other.fetchval("a")) == (2, "a!")
    assert (await one.fetchval(2), await other.fetchval("b")) == (3, "b!")
    await first.close()
    await second.close()


def test_an_error_fails_the_transaction_until_it_is_rolled_back(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO t VALUES (1, 'a')")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


async def test_settings_do_not_leak_and_a_reset_keeps_the_search_path(dsn: str) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=1)
    for _ in range(3):
        async with pool.acquire() as connection:
            await connection.execute("SET work_mem = '9MB'")
            assert await connection.fetchval("SELECT count(*) FROM t") == 0
    await pool.close()
    with psycopg.connect(dsn) as other:
        assert other.execute("SHOW work_mem").fetchone() != ("9MB",)


def raw(dsn: str) -> socket.socket:
    """A client that speaks the protocol by hand, so that it can vanish in the middle."""
    port = int(dsn.rsplit(":", 1)[1].split("/", maxsplit=1)[0])
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(10)
    body = struct.pack(">i", 196608) + b"user\0footfall\0\0"
    client.sendall(struct.pack(">i", len(body) + 4) + body)
    while not client.recv(65536).endswith(b"Z\0\0\0\x05I"):
        pass
    return client


def say(client: socket.socket, kind: bytes, body: bytes) -> None:
    """One message."""
    client.sendall(kind + struct.pack(">i", len(body) + 4) + body)


def test_a_client_that_vanishes_in_mid_copy_leaves_nothing(dsn: str) -> None:
    client = raw(dsn)
    say(client, b"Q", b"COPY t FROM STDIN\0")
    client.recv(65536)
    say(client, b"d", b"1\ta\n" * 1000)
    client.close()
    assert count(dsn) == 0


def test_a_client_that_vanishes_in_a_transaction_is_rolled_back(dsn: str) -> None:
    client = raw(dsn)
    say(client, b"Q", b"BEGIN; INSERT INTO t VALUES (1, 'a')\0")
    client.recv(65536)
    client.close()
    assert count(dsn) == 0


def test_clients_that_vanish_while_they_wait_block_nobody(dsn: str) -> None:
    holder, waiters = raw(dsn), [raw(dsn) for _ in range(3)]
    say(holder, b"Q", b"BEGIN\0")
    holder.recv(65536)
    for waiter in waiters:
        say(waiter, b"Q", b"BEGIN; INSERT INTO t VALUES (2, 'b')\0")
    for client in (*waiters, holder):
        client.close()
    assert count(dsn) == 0
