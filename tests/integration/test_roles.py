"""What each database role may do: its own work, and nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from db import tables
from db.roles import ANALYST, INGEST, SERVE
from db.rollups import ROLLUPS

CATALOGUE = [table.name for table in tables.catalogue.sorted_tables]
SHARD = [table.name for table in tables.shard.sorted_tables]
WRITE = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


@pytest.fixture
def connection(shard: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """As the owner, undone at the end."""
    with psycopg.connect(shard) as opened:
        yield opened
        opened.rollback()


def granted(connection: psycopg.Connection[tuple[object, ...]], role: str) -> set[tuple[str, str]]:
    """Tables and what the role may do with the whole of each."""
    rows = connection.execute(
        "SELECT name, what FROM unnest(%s::text[]) AS name, unnest(%s::text[]) AS what "
        "WHERE has_table_privilege(%s, name, what)",
        ([*CATALOGUE, *SHARD, *(rollup.name for rollup in ROLLUPS)], ["SELECT", *WRITE], role),
    ).fetchall()
    return {(str(name), str(what)) for name, what in rows}


def test_an_ingester_writes_events_and_neither_merchants_nor_keys(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    of_catalogue = {each for each in granted(connection, INGEST) if each[0] in CATALOGUE}
    readable = ("merchant", "shard_map", "shard_move", "installation")
    assert of_catalogue == {(name, "SELECT") for name in readable}
    assert ("events", "INSERT") in granted(connection, INGEST)
    assert ("events", "TRUNCATE") not in granted(connection, INGEST)


def test_the_api_writes_merchants_and_keys_and_no_event(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    written = {each for each in granted(connection, SERVE) if each[1] in WRITE}
    assert written == {
        ("merchant", "INSERT"),
        ("merchant", "UPDATE"),
        ("api_key", "INSERT"),
        ("api_key", "UPDATE"),
        ("key_audit", "INSERT"),
    }
    assert ("installation", "SELECT") not in granted(connection, SERVE)


def test_an_analyst_reads_numbers_and_neither_keys_nor_rejected_bytes(
    connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    may = granted(connection, ANALYST)
    assert {what for _, what in may} == {"SELECT"}
    assert {"events", "traffic_daily"} <= {name for name, _ in may}
    assert not {name for name, _ in may} & {*CATALOGUE, "rejected_event"}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(1, 2)",
        "SELECT pg_advisory_lock_shared(1)",
        "SELECT lo_create(0)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE TABLE mine (a int)",
        "SELECT raw FROM rejected_event",
        "SELECT detail FROM rejected_event",
        "SELECT key_hash FROM api_key",
        "SELECT visitor_hash_key FROM installation",
        "UPDATE refresh_state SET watermark = now()",
        "CALL refresh_continuous_aggregate('traffic_daily', NULL, NULL)",
        "DO $$ BEGIN LOCK TABLE events IN SHARE MODE; END $$",
    ],
)
def test_an_analyst_can_change_nothing_and_take_no_lock_of_ours(shard: str, statement: str) -> None:
    with psycopg.connect(shard, autocommit=True) as connection:
        connection.execute("SET ROLE footfall_analyst")
        with pytest.raises((InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
            connection.execute(statement.encode())
        connection.execute("RESET ROLE")


def test_an_ingester_may_refresh_and_not_drop(shard: str) -> None:
    with psycopg.connect(shard, autocommit=True) as connection:
        connection.execute("SET ROLE footfall_ingest")
        try:
            connection.execute(
                "CALL refresh_continuous_aggregate('traffic_hourly', "
                "date_trunc('day', now()) - INTERVAL '2 days', date_trunc('day', now()))"
            )
            for statement in (b"DROP TABLE events", b"CREATE TABLE mine (a int)"):
                with pytest.raises(InsufficientPrivilege):
                    connection.execute(statement)
        finally:
            connection.execute("RESET ROLE")
