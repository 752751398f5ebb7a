"""The live database is what the catalogues say, however often it is migrated."""

import re
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from db import tables
from db.migrate import MIGRATIONS, migrate
from db.rollup_sql import create_rollup, enable_columnstore, index_rollup
from db.rollups import ROLLUPS, Rollup
from db.standing import EVENT_SCHEMA, ITEM_SCHEMA
from tests.conftest import PARTITIONS
from tests.keys import VISITOR_HASH_KEY

_OF_A_ROLLUP = r"(?:CREATE INDEX .* ON|ALTER MATERIALIZED VIEW) (\w+_daily|\w+_hourly) "


def columns(dsn: str, relation: str) -> list[tuple[str, str]]:
    """Names of a relation's columns, in order, and whether they may be null."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT column_name, is_nullable FROM information_schema.columns "
            "WHERE table_name = %s AND table_schema = 'public' ORDER BY ordinal_position",
            (relation,),
        ).fetchall()


@pytest.mark.parametrize("table", tables.shard.sorted_tables, ids=lambda table: str(table.name))
def test_a_table_of_the_shards_is_as_declared(shards: list[str], table: sa.Table) -> None:
    wanted = [(column.name, "YES" if column.nullable else "NO") for column in table.columns]
    for dsn in shards:
        assert columns(dsn, table.name) == wanted


def test_a_replacement_names_every_column() -> None:
    assert [column.name for column in tables.events.columns] == list(EVENT_SCHEMA)
    assert [column.name for column in tables.event_items.columns] == list(ITEM_SCHEMA)


@pytest.mark.parametrize("table", tables.catalogue.sorted_tables, ids=lambda table: str(table.name))
def test_a_table_of_the_catalogue_is_in_the_first_shard_alone(
    shards: list[str], table: sa.Table
) -> None:
    wanted = [(column.name, "YES" if column.nullable else "NO") for column in table.columns]
    assert columns(shards[0], table.name) == wanted
    assert columns(shards[1], table.name) == []


@pytest.mark.parametrize("rollup", ROLLUPS, ids=lambda rollup: str(rollup.name))
def test_a_rollup_is_as_the_catalogue_says(shards: list[str], rollup: Rollup) -> None:
    for dsn in shards:
        assert [name for name, _ in columns(dsn, rollup.name)] == list(rollup.columns)
        with psycopg.connect(dsn) as connection:
            found = connection.execute(
                "SELECT materialized_only FROM timescaledb_information.continuous_aggregates "
                "WHERE view_name = %s",
                (rollup.name,),
            ).fetchall()
        assert found == [(not rollup.real_time,)]


def test_the_frozen_rollups_are_those_of_today() -> None:
    """Each as the last migration that made it says."""
    last: dict[str, list[str]] = {}
    for script in sorted((MIGRATIONS / "shard" / "versions").glob("*.sql")):
        for part in map(str.strip, script.read_text().split(";\n")):
            if made := re.match(r"CREATE MATERIALIZED VIEW (\w+)", part):
                last[made[1]] = [part]
            elif about := re.match(_OF_A_ROLLUP, part):
                last[about[1]].append(part)
    assert last == {
        r.name: [create_rollup(r), index_rollup(r), enable_columnstore(r)] for r in ROLLUPS
    }


def test_every_rollup_of_today_becomes_columns(shards: list[str]) -> None:
    for dsn in shards:
        with psycopg.connect(dsn) as connection:
            found = connection.execute(
                "SELECT view_name FROM timescaledb_information.jobs "
                "JOIN timescaledb_information.continuous_aggregates AS rollup "
                "  ON jobs.hypertable_name IN (view_name, materialization_hypertable_name) "
                "WHERE proc_name = 'policy_compression' AND compression_enabled"
            ).fetchall()
        assert {name for (name,) in found} == {rollup.name for rollup in ROLLUPS}


def test_migrating_again_changes_nothing(shards: list[str]) -> None:
    def state() -> list[object]:
        with psycopg.connect(shards[0]) as connection:
            return [
                connection.execute(question).fetchall()
                for question in (
                    "SELECT version_num FROM alembic_version_shard",
                    "SELECT version_num FROM alembic_version_catalogue",
                    "SELECT job_id, config FROM timescaledb_information.jobs ORDER BY 1",
                    "SELECT * FROM shard_map ORDER BY 1",
                )
            ]

    before = state()
    migrate(shards, PARTITIONS)
    assert state() == before


def test_raw_rows_are_kept_for_as_long_as_events_may_be_old(shards: list[str]) -> None:
    def kept() -> list[tuple[str]]:
        with psycopg.connect(shards[1]) as connection:
            return connection.execute(
                "SELECT config ->> 'drop_after' FROM timescaledb_information.jobs "
                "WHERE proc_name = 'policy_retention' AND hypertable_name = 'events'"
            ).fetchall()

    migrate(shards, PARTITIONS, max_age_days=4000)
    assert kept() == [("4001 days",)]
    migrate(shards, PARTITIONS)  # what a backfill brought in is not dropped by the next migration
    assert kept() == [("4001 days",)]


def test_every_migration_has_its_script() -> None:
    for revision in MIGRATIONS.glob("*/versions/*.py"):
        assert Path(revision).with_suffix(".sql").exists()


def test_the_visitor_hash_key_is_made_once_and_never_replaced(shards: list[str]) -> None:
    def stored() -> bytes:
        with psycopg.connect(shards[0]) as connection:
            ((key,),) = connection.execute("SELECT visitor_hash_key FROM installation").fetchall()
        return bytes(key)

    migrate(shards, PARTITIONS)
    assert stored() == VISITOR_HASH_KEY
    with pytest.raises(ValueError, match="another visitor hash key"):
        migrate(shards, PARTITIONS, visitor_hash_key=bytes(32))
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        migrate(shards, PARTITIONS, visitor_hash_key=b"abc")
    assert stored() == VISITOR_HASH_KEY
