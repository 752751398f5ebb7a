"""A shard that an earlier release filled, with rows on which that release's refresh fails."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
import sqlalchemy as sa

from db.migrate import _engine, _upgrade, migrate
from db.refresh import refresh_late
from db.retry import patiently
from db.rollups import ROLLUPS
from reprocess.cascade import cascade
from reprocess.verify import verify_rollups
from tests import servers
from tests.conftest import PARTITIONS
from tests.stored import Stored, store, with_pool

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 6
HONEST, POISONER = 1, 666
ONE_RUN = 1e-9  # a budget that is spent by the first run of days


@pytest.fixture
def old() -> Iterator[str]:
    """A shard of the revision before sums saturated, six days of it in rollups."""
    with servers.shards(1) as (dsn,):
        engine = _engine(dsn)
        with engine.connect() as connection:
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
            _upgrade(connection, "catalogue")
            _upgrade(connection, "shard", "0007")
        engine.dispose()
        with psycopg.connect(dsn, autocommit=True) as plain:
            for rollup in ROLLUPS:
                plain.execute("INSERT INTO refresh_state VALUES (%s, now())", (rollup.name,))
        store(dsn, [bought(HONEST, days, 12) for days in range(1, DAYS + 1)])
        refresh_as_before(dsn)
        yield dsn


def bought(merchant: int, days_ago: int, hour: int, price: int = 250, quantity: int = 4) -> Stored:
    """A purchase of one product."""
    at = TODAY - days_ago * DAY + timedelta(hours=hour)
    return Stored(merchant, at, 1000, "EUR", [(price, quantity)])


def refresh_as_before(dsn: str) -> None:
    """Every rollup over all closed days."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for rollup in ROLLUPS:
            connection.execute(
                "CALL refresh_continuous_aggregate(%s::text::regclass, %s, %s)",
                (rollup.name, TODAY - 30 * DAY, TODAY),
            )


def money(dsn: str, merchant: int) -> dict[str, int]:
    """What each rollup of money holds of a merchant."""
    with psycopg.connect(dsn) as connection:
        return {
            rollup.name: int(found[0])
            for rollup in ROLLUPS
            if "value_minor" in rollup.columns
            and (
                found := connection.execute(
                    f"SELECT coalesce(sum(value_minor), 0) FROM {rollup.name} "
                    "WHERE merchant_id = %s",
                    (merchant,),
                ).fetchone()
            )
        }


def queue(dsn: str) -> list[str]:
    """What is left to refresh."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT rollup, day, error FROM refresh_day").fetchall()
    return [f"{rollup} {day:%Y-%m-%d} {error}" for rollup, day, error in rows]


def test_a_poisoned_shard_heals_by_the_migration_and_is_right_all_the_while(old: str) -> None:
    poison = bought(POISONER, 2, 10, 9_999_999_999_999, 1_000_000)
    store(old, [poison, bought(HONEST, 2, 11)])
    with pytest.raises(psycopg.errors.NumericValueOutOfRange):
        refresh_as_before(old)

    migrate([old], PARTITIONS)
    store(old, [bought(HONEST, 4, 9)])
    wanted = dict.fromkeys(money(old, HONEST), 1000 * (DAYS + 2))
    steps = 0
    while True:
        assert money(old, HONEST) == wanted, f"after {steps} passes"
        with_pool(old, lambda pool: patiently(partial(refresh_late, pool, ONE_RUN)))
        steps += 1
        if not queue(old):
            break
    assert steps > 3, "the rollups were not filled piece by piece"
    assert money(old, HONEST) == wanted
    assert money(old, POISONER)["product_daily"] == 2**63 - 1
    window = (TODAY - DAYS * DAY, TODAY)
    assert with_pool(old, lambda pool: verify_rollups(pool, window, None)) == ([], [])
    with psycopg.connect(old) as connection:
        unfilled = connection.execute(
            "SELECT rollup FROM refresh_state WHERE watermark >= %s IS NOT TRUE",
            (TODAY - DAY + timedelta(hours=13),),  # past the last event
        ).fetchall()
    assert unfilled == [], "not everything was materialised"


def test_a_forced_refresh_heals_it_too(old: str) -> None:
    """What `reprocess refresh` does."""
    store(old, [bought(POISONER, 2, 10, 9_999_999_999_999, 1_000_000), bought(HONEST, 2, 11)])
    migrate([old], PARTITIONS)
    with_pool(old, lambda pool: cascade(pool, [(TODAY - 3 * DAY, TODAY - DAY)]))
    assert queue(old) == []
    assert set(money(old, HONEST).values()) == {1000 * (DAYS + 1)}


def test_a_migration_that_is_run_again_keeps_what_was_filled(old: str) -> None:
    migrate([old], PARTITIONS)
    with_pool(old, lambda pool: patiently(partial(refresh_late, pool)))
    before = money(old, HONEST)
    migrate([old], PARTITIONS)
    assert queue(old) == []
    assert money(old, HONEST) == before == dict.fromkeys(before, 1000 * DAYS)
