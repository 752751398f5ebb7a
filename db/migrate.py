"""Bring the databases to today's schema. Running it again changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from db.comments import apply_comments
from db.installation import ensure_visitor_hash_key
from db.policies import apply_policies
from db.roles import apply_roles
from db.shard_map import CHANGED

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What one database was brought to."""

    shard: int
    history: str
    revision: str


def migrate(
    shards: Sequence[str],
    partitions: int,
    report: Callable[[Migrated], None] = lambda _: None,
    *,
    max_age_days: int = 365,
    visitor_hash_key: bytes | None = None,
) -> None:
    """Migrate the catalogue (first shard) and every shard, and map partitions to shards.

    Args:
        shards: PostgreSQL DSNs; the first also holds the catalogue.
        partitions: of the topic, of which there must always be as many.
        report: called after each history that was brought up to date.
        max_age_days: how old an event may be: raw rows are kept at least that long.
        visitor_hash_key: 32 bytes for an installation that has no key yet; random by default.

    Raises:
        ValueError: the installation has another visitor hash key already, or its shard map other
            partitions.
    """
    for number, dsn in enumerate(shards):
        engine = _engine(dsn)
        try:
            with engine.connect() as connection:
                connection.execute(sa.text("SET lock_timeout = '10s'"))
                connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
                connection.commit()
                histories = ("catalogue", "shard") if number == 0 else ("shard",)
                for history in histories:
                    report(Migrated(number, history, _upgrade(connection, history)))
                if number == 0:
                    _map_partitions(connection, partitions, len(shards))
        finally:
            engine.dispose()
        with psycopg.connect(dsn, autocommit=True) as connected:
            plain = cast("psycopg.Connection[object]", connected)
            if number == 0:
                ensure_visitor_hash_key(plain, visitor_hash_key)
            apply_policies(plain, max_age_days)
            apply_roles(plain, catalogue=number == 0)
            apply_comments(plain)


def _engine(dsn: str) -> sa.Engine:
    """libpq reads the DSN: SQLAlchemy's own reader knows no list of hosts."""
    return sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=sa.NullPool
    )


def _upgrade(connection: sa.Connection, history: str, to: str = "head") -> str:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS / history))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = f"alembic_version_{history}"
    command.upgrade(config, to)
    connection.commit()
    version = sa.text(f"SELECT version_num FROM alembic_version_{history}")  # noqa: S608 - our own names
    revision = str(connection.execute(version).scalar_one())
    connection.commit()
    return revision


def _map_partitions(connection: sa.Connection, partitions: int, shards: int) -> None:
    """Give each partition a shard, round robin, once.

    Raises:
        ValueError: the topic has no partitions, or others than are mapped already.
    """
    count = sa.text("SELECT count(*) FROM shard_map")
    mapped = int(connection.execute(count).scalar_one())
    connection.commit()
    if mapped == partitions:
        return
    if mapped or partitions < 1:
        raise ValueError(
            f"the topic has {partitions} partitions and the shard map {mapped}: {CHANGED}"
        )
    connection.execute(
        sa.text(
            "INSERT INTO shard_map (kafka_partition, shard) "
            "SELECT p, p % :shards FROM generate_series(0, :last) AS p ON CONFLICT DO NOTHING"
        ),
        {"shards": shards, "last": partitions - 1},
    )
    connection.commit()
