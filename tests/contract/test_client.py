"""The Python client against the real service."""

import time

import pytest

from footfall_client import (
    AsyncFootfall,
    Breakdown,
    EventQueue,
    Footfall,
    Problem,
    Query,
    Raw,
    Rejected,
    Send,
    Summary,
    Timeseries,
)
from tests.service import Service, page_view


def test_what_is_sent_is_answered(service: Service, shop: int) -> None:
    with Footfall(service.url, service.key(shop)) as client:
        bought = page_view(event="purchase", order_id="1", value="19.99", currency="EUR")
        sent = client.ask(Send([page_view(), bought]))
        assert (sent.accepted, sent.rejected) == (2, [])
        service.wait_for_events(shop, 2)
        answer = client.ask(Query(["visitors", "orders", "revenue"], date_range="today"))
        assert (answer.rows[0]["visitors"], answer.rows[0]["orders"]) == (1, 1)
        assert str(answer.money(answer.rows[0]["revenue"]).amount) == "19.99"
        assert answer.meta.fresh_as_of is not None
        pages = client.ask(
            Breakdown(shop, ["page_views"], "7d", dimension="page", order_by="-page_views")
        )
        assert pages.rows[0]["page"] == "/"
        series = client.ask(Timeseries(shop, ["page_views"], "7d", interval="day"))
        assert len(series.rows) == 7
        totals = client.ask(
            Summary(
                shop, ["page_views"], filters=[["is", "page", ["/"]]], compare="previous_period"
            )
        )
        assert totals.totals == {"page_views": 1}
        assert totals.comparison is not None
        assert client.ask(Raw("/health/live", dict[str, str])) == {"status": "ok"}


async def test_asyncio_is_answered_the_same(service: Service, shop: int) -> None:
    async with AsyncFootfall(service.url, service.key(shop)) as client:
        assert (await client.ask(Send([page_view()], validate=True))).accepted == 1
        answer = await client.ask(Query(["events"], date_range="today"))
        assert answer.rows == [{"events": 0}]


def test_sending_the_same_again_counts_once(service: Service, shop: int) -> None:
    send = Send([page_view(visitor_id=f"v-{number}") for number in range(50)])
    with Footfall(service.url, service.key(shop)) as client:
        for _ in range(3):
            assert client.ask(send).accepted == 50
    service.send(shop, page_view(visitor_id="the last"))
    service.wait_for_events(shop, 51)
    time.sleep(1)
    assert service.ask(shop, metrics=["events"], date_range="7d")["rows"][0]["events"] == 51


def test_a_queue_delivers_all_at_its_close_and_tells_of_the_rejected(
    service: Service, shop: int
) -> None:
    lost: list[tuple[str, str]] = []

    def note(events: object, why: object) -> None:
        assert isinstance(events, list)
        assert isinstance(why, Rejected)
        lost.append((events[0]["visitor_id"], why.reason))

    with (
        Footfall(service.url, service.key(shop)) as client,
        EventQueue(client, batch=100, lost=note) as events,
    ):
        for number in range(350):
            country = {"country": "ZZ"} if number == 177 else {}
            events.add(page_view(visitor_id=f"v-{number}", **country))
    assert lost == [("v-177", "unknown_country")]
    service.wait_for_events(shop, 349)


def test_refusals_are_problems(service: Service, shop: int) -> None:
    with Footfall(service.url, "ff_wrong") as client, pytest.raises(Problem) as raised:
        client.ask(Query(["visitors"]))
    assert (raised.value.status, raised.value.code) == (401, "unknown_key")
    with Footfall(service.url, service.key(shop)) as client, pytest.raises(Problem) as raised:
        client.ask(Query(["visitor"]))
    assert raised.value.code == "unknown_metric"
    assert "visitors" in raised.value.detail
    assert raised.value.request_id
