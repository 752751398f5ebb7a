"""A rollup that cannot be refreshed delays no other; answers, doctor and telemetry say so."""

import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.migrate import MIGRATIONS
from db.refresh import refresh_late
from db.rollups import ROLLUPS
from events.partitions import partition_of
from ingester import telemetry
from ingester.watch import watch_shard
from reprocess.cascade import RollupFailsError, cascade
from reprocess.verify import verify_rollups
from tests import warm
from tests.conftest import PARTITIONS, World
from tests.history import command, own_world
from tests.service import Service, serving
from tests.stored import Stored, store, with_pool

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
POISONER = 666
# The product rollups of before sums saturated, as their first migration made them.
OF_BEFORE = [
    "DROP MATERIALIZED VIEW product_daily",
    "DROP MATERIALIZED VIEW product_hourly",
    *(
        part
        for part in (MIGRATIONS / "shard/versions/0002_rollups.sql").read_text().split(";\n")
        if re.match(r"\s*CREATE MATERIALIZED VIEW product_", part)
    ),
]
FAR = (TODAY - 20 * DAY).date().isoformat(), (TODAY - 19 * DAY).date().isoformat()
NEAR = (TODAY - 3 * DAY).date().isoformat(), TODAY.date().isoformat()


@dataclass(frozen=True, slots=True)
class Shard:
    """A service over one shard, of which product_hourly overflows by one merchant's rows."""

    service: Service
    world: World
    merchant: int

    @property
    def dsn(self) -> str:
        """Its database."""
        return self.world.shards[0]

    def store(self, *events: Stored) -> None:
        """As the partition of the merchant."""
        store(self.dsn, events, partition_of(self.merchant, PARTITIONS), self.world.topic)

    def refresh(self, budget_s: float = 600) -> int:
        """One pass."""
        return with_pool(self.dsn, partial(refresh_late, budget_s=budget_s))

    def ask(self, between: tuple[str, str], **more: Any) -> dict[str, Any]:
        """The merchant's events of a range, and what the answer says about itself."""
        return self.service.ask(self.merchant, metrics=["events"], date_range=between, **more)

    def failing(self) -> list[tuple[str, datetime, int]]:
        """Rollup, day and attempts of what fails."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(
                "SELECT rollup, day, attempts FROM refresh_day "
                "WHERE failed_at IS NOT NULL ORDER BY 1, 2"
            ).fetchall()


@pytest.fixture
def shard(bootstrap: str, tmp_path: Path) -> Iterator[Shard]:
    """Three weeks of one shop in rollups; then a day that product_hourly cannot refresh."""
    more = {"FOOTFALL_CACHE_MS": "0"}
    with (
        own_world(bootstrap, f"failing.{uuid.uuid4().hex[:8]}") as world,
        serving(world, tmp_path, more=more) as (service, _),
    ):
        made = Shard(service, world, service.merchant())
        with psycopg.connect(made.dsn, autocommit=True) as connection:
            for statement in OF_BEFORE:
                connection.execute(statement)
        made.store(*[bought(made.merchant, days) for days in range(1, 22)])
        made.refresh()
        poison = bought(POISONER, 20, [(9_999_999_999_999, 1_000_000)])
        made.store(poison, bought(made.merchant, 20))
        made.store(bought(made.merchant, 2))
        yield made


def bought(merchant: int, days_ago: int, items: Sequence[tuple[int, int]] = ((500, 1),)) -> Stored:
    """A purchase of one product, in the morning."""
    return Stored(merchant, TODAY - days_ago * DAY + timedelta(hours=9), 500, "EUR", items)


def mend(shard: Shard) -> None:
    """Take the cause away."""
    with psycopg.connect(shard.dsn) as connection:
        connection.execute("DELETE FROM event_items WHERE merchant_id = %s", (POISONER,))


def test_it_fails_alone_and_only_its_own_answers_say_so(shard: Shard) -> None:
    shard.refresh()
    assert [(name, day) for name, day, _ in shard.failing()] == [
        ("product_hourly", TODAY - 20 * DAY)
    ]
    # every other rollup has taken in the late events of both days
    assert shard.ask(FAR)["rows"] == [{"events": 2}]
    assert shard.ask(NEAR)["rows"] == [{"events": 4}]
    # so has the failing one, of all other days
    product = {"dimensions": ["product"]}
    assert shard.ask(NEAR, **product)["rows"] == [{"product": "p0", "events": 4}]
    for fine in (shard.ask(FAR), shard.ask(NEAR), shard.ask(NEAR, **product)):
        assert fine["meta"]["warnings"] == []
    # of the day itself it answers what it has, says what is missing, and is as fresh as that
    stale = shard.ask(FAR, **product)
    assert stale["rows"] == [{"product": "p0", "events": 1}]
    assert "arrived late" in stale["meta"]["warnings"][0]
    assert stale["meta"]["fresh_as_of"] < shard.ask(FAR)["meta"]["fresh_as_of"]
    csv = shard.service.call(
        "POST",
        "/v1/query",
        key=shard.service.key(shard.merchant),
        headers={"Accept": "text/csv"},
        json={"metrics": ["events"], "date_range": FAR, "dimensions": ["product"]},
    )
    assert "arrived late" in csv.headers["footfall-warnings"]


def test_it_is_retried_later_and_each_time_less_soon(shard: Shard) -> None:
    shard.refresh()
    shard.refresh()
    ((_, _, attempts),) = shard.failing()
    assert attempts == 1, "it is not retried at once"
    for again in (2, 3):
        with psycopg.connect(shard.dsn) as connection:
            connection.execute(
                "UPDATE refresh_day SET retry_at = now() WHERE failed_at IS NOT NULL"
            )
        shard.refresh()
        ((_, _, attempts),) = shard.failing()
        assert attempts == again
    with psycopg.connect(shard.dsn) as connection:
        waits = connection.execute(
            "SELECT retry_at - now() FROM refresh_day WHERE failed_at IS NOT NULL"
        ).fetchone()
    assert waits is not None
    assert waits[0] > timedelta(seconds=60)


def test_it_heals_by_itself_once_the_cause_is_gone(shard: Shard) -> None:
    shard.refresh()
    mend(shard)
    with psycopg.connect(shard.dsn) as connection:
        connection.execute("UPDATE refresh_day SET retry_at = now() WHERE failed_at IS NOT NULL")
    shard.refresh()
    assert shard.failing() == []
    healed = shard.ask(FAR, dimensions=["product"])
    assert healed["rows"] == [{"product": "p0", "events": 2}]
    assert healed["meta"]["warnings"] == []


def test_an_operator_heals_it_at_once(shard: Shard) -> None:
    """`reprocess refresh` does not wait for the next attempt."""
    shard.refresh()
    mend(shard)
    command(shard.world, "reprocess", "refresh", "--from", FAR[0], "--to", FAR[1])
    assert shard.failing() == []
    assert shard.ask(FAR, dimensions=["product"])["rows"] == [{"product": "p0", "events": 2}]


def test_a_forced_refresh_fails_for_it_alone(shard: Shard) -> None:
    with pytest.raises(RollupFailsError, match=r"^product_hourly, product_daily could not"):
        with_pool(shard.dsn, lambda pool: cascade(pool, [(TODAY - 20 * DAY, TODAY - 19 * DAY)]))
    assert shard.ask(FAR)["rows"] == [{"events": 2}]
    window = (TODAY - 20 * DAY, TODAY - 19 * DAY)
    differing, failing = with_pool(shard.dsn, lambda pool: verify_rollups(pool, window, None))
    assert {each.rollup for each in differing} == {"product_hourly"}
    assert failing == []


def test_verify_reports_a_rollup_that_cannot_be_read(shard: Shard) -> None:
    with psycopg.connect(shard.dsn) as connection:
        connection.execute("ALTER MATERIALIZED VIEW place_daily RENAME TO place_elsewhere")
    window = (TODAY - 20 * DAY, TODAY)
    differing, failing = with_pool(shard.dsn, lambda pool: verify_rollups(pool, window, None))
    assert [each.rollup for each in failing] == ["place_daily"]
    assert {each.rollup for each in differing} == {"product_hourly"}


def test_doctor_and_telemetry_tell_of_it(shard: Shard) -> None:
    shard.refresh()
    done = warm.run(["doctor", "--json"], {**os.environ, **shard.world.environment}, 60)
    assert done.returncode == 1
    (failing,) = [each for each in json.loads(done.stdout) if each["part"].startswith("rollup")]
    assert (failing["part"], failing["ok"]) == ("rollup product_hourly", False)
    assert "out of range" in failing["cause"]
    assert failing["command"] == f"footfall reprocess refresh --from {FAR[0]} --to {FAR[1]}"
    with_pool(shard.dsn, lambda pool: watch_shard(7, pool, shard.world.topic))
    assert telemetry.SHARD_FAILING_ROLLUPS.labels(7)._value.get() == 1
    assert telemetry.SHARD_REFRESH_QUEUE.labels(7)._value.get() == 2
    seconds = telemetry.SHARD_REFRESHED.labels(7)._value.get()
    assert seconds > (datetime.now(UTC) - timedelta(minutes=5)).timestamp(), "the others are fresh"


def test_recent_days_do_not_wait_for_older_ones(shard: Shard) -> None:
    """A pass without time takes what is recent, and one run of older days."""
    mend(shard)
    older = [bought(shard.merchant, days) for days in range(3, 22)]
    shard.store(*older)
    shard.store(bought(shard.merchant, 1))
    shard.refresh(budget_s=1e-9)
    with psycopg.connect(shard.dsn) as connection:
        left = connection.execute(
            "SELECT count(DISTINCT rollup), max(day) FROM refresh_day"
        ).fetchone()
    assert left is not None
    assert left[0] > len(ROLLUPS) // 2
    assert left[1] < TODAY - DAY
    assert shard.ask(((TODAY - DAY).date().isoformat(), TODAY.date().isoformat()))["rows"] == [
        {"events": 2}
    ]
