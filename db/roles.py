"""Database roles: what each kind of process may do. Applied by every `footfall migrate`.

- The tables' owner, whom `footfall migrate` connects as. Also for `reprocess run`, `shards move`,
  `merchants` and `keys`.
- `footfall_ingest`: ingesters and `reprocess verify`. Writes events and the ledger, refreshes
  rollups; may neither change merchants and keys nor drop tables.
- `footfall_serve`: the API. Reads numbers, writes merchants and keys and no event.
- `footfall_analyst`: Grafana and people with SQL. Reads numbers.

`footfall_ingest` and `footfall_serve` are logins without a password: the operator gives them one.
`footfall_analyst` cannot log in: each analyst gets a login that is a member of it.
"""

from typing import Final, LiteralString, cast

import psycopg
from psycopg import sql

from db import tables
from db.rollups import ROLLUPS

INGEST: Final = "footfall_ingest"
SERVE: Final = "footfall_serve"
ANALYST: Final = "footfall_analyst"

_TABLES: Final = tuple(table.name for table in tables.shard.sorted_tables)
_ROLLUPS: Final = tuple(rollup.name for rollup in ROLLUPS)
_NUMBERS: Final = (
    *("events", "event_items", *_ROLLUPS),
    *("ingest_offset", "ingest_batch", "refresh_state", "refresh_day"),
    *("reprocess_run", "reprocess_slice", "verification"),
)
# Of a reject neither the bytes nor its detail: they were never checked, and may hold anything.
_REJECT_COLUMNS: Final = (
    *("topic_id", "kafka_partition", "log_offset", "logged_at"),
    *("merchant_id", "reason", "field"),
)
_MAKE: Final = """
DO $$ BEGIN CREATE ROLE {role} {login};
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
"""
# Every login may call these functions by default. With the first kind an analyst could take the
# lock of the refresh coordinator and stop all rollups; with the second, fill the disk.
_RESTRICT: Final = """
DO $$
DECLARE
    restricted regprocedure;
BEGIN
    FOR restricted IN
        SELECT oid::regprocedure FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace
           AND proname ~ ('^(pg_(try_)?advisory_(xact_)?lock|'
                          'lo_(creat|create|from_bytea|put)$|lowrite$)')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', restricted);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I, footfall_ingest', restricted,
                       (SELECT datdba::regrole::text FROM pg_database
                         WHERE datname = current_database()));
    END LOOP;
END $$
"""


def apply_roles(connection: psycopg.Connection[object], *, catalogue: bool) -> None:
    """Make the roles where they are missing, and grant what is written above.

    Args:
        connection: in autocommit, of the tables' owner, who may make roles. Only a superuser can
            give rollups to ingesters and restrict functions of the server: for others both are
            skipped, and ingesters have to connect as the owner.
        catalogue: whether merchants and keys are in this database.
    """
    # The owner of a rollup must be a login, or the server refuses to run its policies.
    for role, login in ((INGEST, "LOGIN"), (SERVE, "LOGIN"), (ANALYST, "NOLOGIN")):
        connection.execute(_MAKE.format(role=role, login=login).encode())
    _grant(connection, "SELECT", _NUMBERS, ANALYST)
    columns = sql.SQL(", ").join(map(sql.Identifier, _REJECT_COLUMNS))
    connection.execute(
        sql.SQL("GRANT SELECT ({}) ON rejected_event TO {}").format(
            columns, sql.Identifier(ANALYST)
        )
    )
    _grant(connection, "SELECT, INSERT, UPDATE, DELETE", _TABLES, INGEST)
    _grant(connection, "SELECT", (*_TABLES, *_ROLLUPS, "alembic_version_shard"), SERVE)
    _grant(connection, "SELECT", ("alembic_version_shard",), INGEST)
    if catalogue:
        read = ("merchant", "shard_map", "shard_move", "alembic_version_catalogue")
        _grant(connection, "SELECT", (*read, "installation"), INGEST)
        _grant(connection, "SELECT", (*read, "api_key", "key_audit"), SERVE)
        _grant(connection, "INSERT, UPDATE", ("merchant", "api_key"), SERVE)
        _grant(connection, "INSERT", ("key_audit",), SERVE)
    _restrict_everybody(connection)
    if connection.execute("SELECT current_setting('is_superuser') = 'on'").fetchone() == (True,):
        _own_rollups(connection)
        connection.execute(_RESTRICT)


def _grant(
    connection: psycopg.Connection[object], what: LiteralString, names: tuple[str, ...], role: str
) -> None:
    relations = sql.SQL(", ").join(map(sql.Identifier, names))
    connection.execute(
        sql.SQL("GRANT {} ON {} TO {}").format(
            sql.SQL(what),
            relations,
            sql.Identifier(role),
        )
    )


def _own_rollups(connection: psycopg.Connection[object]) -> None:
    """TimescaleDB lets only its owner refresh a continuous aggregate, so ingesters own them."""
    others = connection.execute(
        "SELECT view_name FROM timescaledb_information.continuous_aggregates "
        "WHERE view_name = ANY (%s) AND view_owner::text <> %s",
        (list(_ROLLUPS), INGEST),
    ).fetchall()
    for (name,) in cast("list[tuple[str]]", others):
        connection.execute(
            sql.SQL("ALTER MATERIALIZED VIEW {} OWNER TO {}").format(
                sql.Identifier(name), sql.Identifier(INGEST)
            )
        )


def _restrict_everybody(connection: psycopg.Connection[object]) -> None:
    rows = connection.execute("SELECT current_database()").fetchall()
    ((database,),) = cast("list[tuple[str]]", rows)
    name = sql.Identifier(database)
    connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(name))
    connection.execute(
        sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(name, sql.Identifier(INGEST))
    )
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
