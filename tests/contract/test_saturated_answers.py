"""A question is answered whatever amounts the rows hold, from rollups and from raw rows alike."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from db.refresh import refresh_late
from db.saturation import INT8_MAX
from events.money import EXPONENTS, to_decimal
from events.partitions import partition_of
from tests.conftest import PARTITIONS
from tests.history import own_world
from tests.service import Service, serving
from tests.stored import Stored, store, with_pool

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [(TODAY - days * DAY).date().isoformat() for days in (4, 0)]
MOST = {name: 10**9 * 10**exponent for name, exponent in EXPONENTS.items()}
# What an earlier release accepted: two lines and two values, each close to the limit of int8.
BEYOND = [
    Stored(0, TODAY - 2 * DAY + timedelta(hours=hour), INT8_MAX - 5, "EUR", [(INT8_MAX, 10**6)])
    for hour in (1, 2)
]


@pytest.fixture(scope="module")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without an ingester: the tests put its rows in place."""
    with (
        own_world(bootstrap, f"saturated.{uuid.uuid4().hex[:8]}") as world,
        serving(world, tmp_path_factory.mktemp("saturated")) as (running, _),
    ):
        yield running


def filled(service: Service, events: list[Stored], *, refreshed: bool = True) -> int:
    """A shop that has these events."""
    merchant = service.merchant()
    own = [Stored(merchant, e.at, e.value_minor, e.currency, e.items) for e in events]
    dsn = service.world.shards[0]
    store(dsn, own, partition_of(merchant, PARTITIONS), service.world.topic)
    if refreshed:
        with_pool(dsn, partial(refresh_late, budget_s=600))
    return merchant


def revenue(service: Service, merchant: int, currency: str = "EUR", **more: Any) -> dict[str, Any]:
    """The shop's money."""
    query = {"metrics": ["revenue", "units"], "date_range": DAYS, "currency": currency, **more}
    return service.ask(merchant, **query)


PLANS = {
    "daily": {},
    "hourly": {"dimensions": ["time:hour"], "limit": 1000, "include": {"totals": True}},
    "raw": {"dimensions": ["time:minute"], "limit": 10000, "include": {"totals": True}},
    "products": {"dimensions": ["product"], "include": {"totals": True}},
    "products of each hour": {"dimensions": ["time:hour", "product"], "include": {"totals": True}},
    "products of raw rows": {"dimensions": ["time:minute", "product"], "include": {"totals": True}},
    "compared": {"include": {"comparison": "previous_period"}},
}


@pytest.mark.parametrize("more", PLANS.values(), ids=PLANS.keys())
def test_amounts_beyond_the_contract_are_answered_and_said_to_be(
    service: Service, more: dict[str, Any]
) -> None:
    merchant = filled(service, BEYOND)
    told = revenue(service, merchant, **more)
    largest = {"amount": to_decimal(INT8_MAX, "EUR"), "currency": "EUR"}
    total = told["totals"] if "totals" in told else told["rows"][0]
    assert total == {"revenue": largest, "units": 2_000_000}
    assert "larger than can be stored" in " ".join(told["meta"]["warnings"])


def test_the_present_hour_is_answered_too(service: Service) -> None:
    """Straight from raw rows, through real-time aggregation."""
    now = datetime.now(UTC) - timedelta(seconds=1)
    poison = [Stored(0, now, INT8_MAX, "EUR", [(9_999_999_999_999, 10**6)])] * 3
    merchant = filled(service, poison, refreshed=False)
    products: dict[str, Any] = {"dimensions": ["product"]}
    for more in ({}, products):
        told = revenue(service, merchant, date_range="today", **more)
        assert told["rows"][0]["revenue"]["amount"] == to_decimal(INT8_MAX, "EUR")


@pytest.mark.parametrize("currency", ["EUR", "JPY", "KWD", "CLF"])
def test_the_limits_of_the_contract_are_exact(service: Service, currency: str) -> None:
    """A purchase may be of a thousand million, in the smallest unit of any currency."""
    at = TODAY - 3 * DAY
    events = [Stored(0, at, MOST[currency], currency, [(MOST[currency], 1)])] * 3
    merchant = filled(service, events)
    products: dict[str, Any] = {"dimensions": ["product"]}
    for more in ({}, products):
        told = revenue(service, merchant, currency, **more)
        exact = {"amount": to_decimal(3 * MOST[currency], currency), "currency": currency}
        assert told["rows"][0]["revenue"] == exact
        assert told["meta"]["warnings"] == []


@pytest.mark.parametrize("kind", ["text/csv", "application/x-ndjson"])
def test_a_download_is_answered_too(service: Service, kind: str) -> None:
    merchant = filled(service, BEYOND)
    query = {"metrics": ["revenue"], "date_range": DAYS, "dimensions": ["product"]}
    answer = service.call(
        "POST", "/v1/query", key=service.key(merchant), headers={"Accept": kind}, json=query
    )
    assert answer.status_code == 200
    assert to_decimal(INT8_MAX, "EUR") in answer.text
