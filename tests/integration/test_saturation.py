"""Nothing that the tables can hold fails an aggregate: a sum that is too large saturates."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from db.measures import CHANGE, keep_changes
from db.migrate import migrate
from db.refresh import refresh_late
from db.retry import patiently
from db.rollups import ROLLUPS
from db.saturation import INT8_MAX, saturated
from events.money import EXPONENTS
from reprocess.cascade import cascade
from reprocess.verify import verify_rollups
from tests import servers
from tests.conftest import PARTITIONS
from tests.stored import Stored, store, with_pool

DAY = timedelta(days=1)
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 3 * DAY
MAX_MAJOR, MAX_QUANTITY, MAX_ITEMS = 10**9, 10**6, 200


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A shard of this module's own."""
    with servers.shards(1) as dsns:
        migrate(dsns, PARTITIONS)
        yield dsns[0]


def sums(dsn: str, rollup: str, merchant: int) -> dict[str, tuple[int, int]]:
    """By currency: saturated units and money of a merchant's purchases, over all buckets."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            f"SELECT currency, sum(units), sum(value_minor) FROM {rollup} "
            "WHERE merchant_id = %s AND event = 'purchase' GROUP BY currency",
            (merchant,),
        ).fetchall()
    return {row[0]: (saturated(int(row[1])), saturated(int(row[2]))) for row in rows}


def wanted(events: list[Stored], *, of_items: bool) -> dict[str, tuple[int, int]]:
    """The same, computed here. All amounts are positive, so that it makes no difference at which
    step they saturate."""
    units: dict[str, int] = defaultdict(int)
    money: dict[str, int] = defaultdict(int)
    for event in events:
        quantities = sum(quantity for _, quantity in event.items)
        lines = sum((price or 0) * quantity for price, quantity in event.items)
        if of_items and not event.items:
            continue
        units[event.currency] += quantities if of_items else min(quantities, 2**31 - 1)
        money[event.currency] += lines if of_items else event.value_minor or 0
    return {name: (saturated(units[name]), saturated(money[name])) for name in units}


def check(dsn: str, merchant: int, events: list[Stored]) -> None:
    """Every rollup is refreshed, and is what its rows are."""
    with_pool(dsn, lambda pool: patiently(partial(refresh_late, pool, budget_s=600)))
    with psycopg.connect(dsn) as connection:
        left = connection.execute("SELECT rollup, day, error FROM refresh_day").fetchall()
    assert left == []
    for rollup in ROLLUPS:
        if any(measure.name == "value_minor" for measure in rollup.measures):
            of_items = rollup.name.startswith("product")
            assert sums(dsn, rollup.name, merchant) == wanted(events, of_items=of_items)
    found = with_pool(dsn, lambda pool: verify_rollups(pool, (START, START + 2 * DAY), [merchant]))
    assert found == ([], [])


def at_the_limits(merchant: int, currency: str) -> list[Stored]:
    """A purchase at every limit of the contract at once: an amount, and items whose lines sum to
    it; and one of the dearest product; the same hour, and the next."""
    most = MAX_MAJOR * 10 ** EXPONENTS[currency]
    lines = [(most // MAX_ITEMS // MAX_QUANTITY, MAX_QUANTITY)] * MAX_ITEMS
    return [
        Stored(merchant, START + hour * timedelta(hours=1), most, currency, items)
        for hour in (0, 0, 1)
        for items in (lines, [(most, 1)])
    ]


def test_every_limit_of_the_contract_in_every_currency(dsn: str) -> None:
    events = [each for currency in EXPONENTS for each in at_the_limits(1, currency)]
    store(dsn, events)
    check(dsn, 1, events)


def test_rows_beyond_the_contract_saturate(dsn: str) -> None:
    """What an earlier release accepted: a line and a sum of values that int8 cannot hold."""
    events = [
        Stored(2, START, None, "EUR", [(9_999_999_999_999, 1_000_000)]),
        Stored(2, START, None, "JPY", [(INT8_MAX, 2**31 - 1), (None, 5), (5, 2)]),
        *[Stored(2, START, 999_999_999_999_999, "CLF") for _ in range(10_000)],
        *[Stored(2, START + timedelta(hours=1), INT8_MAX, "USD") for _ in range(3)],
    ]
    store(dsn, events)
    check(dsn, 2, events)
    assert sums(dsn, "product_hourly", 2)["EUR"] == (1_000_000, INT8_MAX)
    assert sums(dsn, "traffic_daily", 2)["CLF"] == (0, INT8_MAX)


amounts = st.one_of(
    st.integers(0, INT8_MAX),
    st.sampled_from([4294967295, 4294967296, 10**13, 999_999_999_999_999, INT8_MAX]),
)
quantities = st.one_of(st.integers(1, MAX_QUANTITY), st.just(2**31 - 1))
purchases = st.builds(
    lambda minute, value, currency, items: (minute, value, currency, items),
    st.integers(0, 2 * 24 * 60 - 1),
    st.one_of(st.none(), amounts),
    st.sampled_from(["EUR", "JPY", "KWD", "CLF"]),
    st.lists(st.tuples(st.one_of(st.none(), amounts), quantities), max_size=4),
)


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(purchases, min_size=1, max_size=12))
def test_no_row_fails_a_refresh_or_the_audit(dsn: str, drawn: list[tuple]) -> None:  # type: ignore[type-arg]
    merchant = uuid.uuid4().int % 2**40 + 10
    events = [
        Stored(merchant, START + timedelta(minutes=minute), value, currency, items)
        for minute, value, currency, items in drawn
    ]
    named = [each for each in events if each.value_minor is not None or each.items]
    store(dsn, events)
    check(dsn, merchant, named)


def test_a_forced_refresh_keeps_what_is_saturated(dsn: str) -> None:
    events = [Stored(3, START, INT8_MAX, "EUR", [(INT8_MAX, 2**31 - 1)])] * 2
    store(dsn, events)
    with_pool(dsn, lambda pool: cascade(pool, [(START, START + DAY)]))
    check(dsn, 3, events)


def test_the_history_of_a_number_saturates(dsn: str) -> None:
    """Two parts of a slice that change the same sum of a day."""
    change = pl.DataFrame(
        [(1, START.date(), "revenue EUR", INT8_MAX, INT8_MAX - 1)], schema=CHANGE, orient="row"
    )

    async def keep_twice(pool: asyncpg.Pool) -> list[asyncpg.Record]:
        run = "00000000-0000-0000-0000-000000000001"
        async with pool.acquire() as connection:
            for _ in range(2):
                await keep_changes(connection, run, 0, START, change)
            return await connection.fetch("SELECT before, after FROM reprocess_change")

    assert [tuple(row) for row in with_pool(dsn, keep_twice)] == [(INT8_MAX, INT8_MAX)]
