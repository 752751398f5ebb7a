"""Rows from events: money, places, sources, devices, items; pure and the same every time."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from events.batch import Processed
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import ITEM_COLUMNS, ROW_COLUMNS, process
from tests.keys import VISITOR_HASH
from tests.unit.messages import CHROME, GOOGLEBOT, IPHONE, NOW_MS, batch, raw


def processed(*values: bytes) -> Processed:
    """What becomes of these messages."""
    found = process(batch(list(values)), limits=Limits(), enrichment=Enrichment(VISITOR_HASH))
    assert found.rejects.is_empty(), found.rejects
    return found


def row(**fields: Any) -> dict[str, Any]:
    """The row of one event."""
    (only,) = processed(raw(**fields)).rows.iter_rows(named=True)
    return only


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("19.99", "EUR", 1999),
        (19.99, "EUR", 1999),
        ("0.1", "EUR", 10),
        (20, "EUR", 2000),
        ("500", "JPY", 500),
        ("5.00", "JPY", 5),
        ("1.234", "KWD", 1234),
        ("1.2345", "CLF", 12345),
        ("999999999.99", "EUR", 99_999_999_999),
        ("1000000000.00", "EUR", 100_000_000_000),
        ("1000000000", "CLF", 10_000_000_000_000),
        (0.07, "EUR", 7),
        (1e-2, "EUR", 1),
    ],
)
def test_money_is_minor_units_of_its_own_currency(value: Any, currency: str, minor: int) -> None:
    assert row(value=value, currency=currency)["value_minor"] == minor


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://shop.example/p/1?x=1#top", "/p/1"),
        ("https://shop.example", "/"),
        ("https://shop.example/", "/"),
        ("https://shop.example?x=1", "/"),
        ("https://shop.example/a//b/", "/a//b/"),
        ("https://shop.example/#/app", "/"),
        ("/relative?x=1", "/relative"),
        ("relative", "/relative"),
        (..., None),
    ],
)
def test_the_page_is_the_urls_path(url: Any, page: str | None) -> None:
    assert row(url=url)["page"] == page


SHOP = "https://www.shop.example/"


@pytest.mark.parametrize(
    ("query", "referrer", "source", "channel"),
    [
        ("", None, "direct", "Direct"),
        ("", "https://www.google.com/", "google", "Organic Search"),
        ("", "https://www.google.co.uk/search?q=x", "google", "Organic Search"),
        ("", "https://duckduckgo.com/", "duckduckgo", "Organic Search"),
        ("", "https://l.facebook.com/", "facebook", "Organic Social"),
        ("", "https://t.co/abc", "twitter", "Organic Social"),
        ("", "https://www.youtube.com/watch", "youtube", "Organic Video"),
        ("", "https://www.amazon.de/", "amazon", "Organic Shopping"),
        ("", "https://chatgpt.com/", "chatgpt", "AI Assistants"),
        ("", "https://blog.friend.co.uk/post", "friend.co.uk", "Referral"),
        ("", "https://m.shop.example/cart", "direct", "Direct"),
        ("", "https://www.paypal.com/checkout", "direct", "Direct"),
        ("gclid=1", None, "google", "Paid Search"),
        ("fbclid=1", None, "facebook", "Organic Social"),
        ("msclkid=1", "https://www.google.com/", "bing", "Paid Search"),
        ("utm_source=google&utm_medium=cpc", None, "google", "Paid Search"),
        ("utm_source=Facebook&utm_medium=Paid_Social", None, "facebook", "Paid Social"),
        ("utm_source=youtube&utm_medium=cpv", None, "youtube", "Paid Video"),
        ("utm_source=x1&utm_medium=ppc", None, "x1", "Paid Other"),
        ("utm_source=x1&utm_medium=banner", None, "x1", "Display"),
        ("utm_source=newsletter&utm_medium=e-mail", None, "newsletter", "Email"),
        ("utm_source=partner&utm_medium=affiliate", None, "partner", "Affiliates"),
        ("utm_source=x1&utm_medium=sms", None, "x1", "SMS"),
        ("utm_source=x1&utm_medium=audio", None, "x1", "Audio"),
        ("utm_source=x1&utm_medium=web_push", None, "x1", "Push"),
        ("utm_source=x1&utm_medium=strange", None, "x1", "Unassigned"),
        ("utm_source=x1&utm_medium=referral", None, "x1", "Referral"),
        ("utm_source=summer%20sale", None, "summer sale", "Unassigned"),
    ],
)
def test_source_and_channel(query: str, referrer: str | None, source: str, channel: str) -> None:
    found = row(url=f"{SHOP}p?{query}", referrer=referrer)
    assert (found["source"], found["channel"]) == (source, channel)


def test_campaign_parameters_are_unescaped_and_kept() -> None:
    found = row(
        url=f"{SHOP}?utm_campaign=Herbst+%26+Winter&utm_medium=x&utm_term=t&utm_content=a%00b"
    )
    assert (found["campaign"], found["utm_term"], found["utm_content"]) == (
        "Herbst & Winter",
        "t",
        "ab",
    )


@pytest.mark.parametrize(
    ("agent", "url", "device", "browser", "system", "bot"),
    [
        (CHROME, SHOP, "desktop", "Chrome", "Windows", False),
        (IPHONE, SHOP, "mobile", "Mobile Safari", "iOS", False),
        (GOOGLEBOT, SHOP, "bot", "Googlebot", "Other", True),
        ("curl/8.1", None, "bot", "curl", "Other", True),
        (..., SHOP, "unknown", None, None, False),
        (..., ..., "unknown", None, None, False),
    ],
)
def test_devices_and_bots(
    agent: Any, url: Any, device: str, browser: str | None, system: str | None, bot: bool
) -> None:
    found = row(user_agent=agent, url=url)
    assert (found["device"], found["is_bot"]) == (device, bot)
    if device in ("desktop", "mobile"):
        assert (found["browser"], found["os"]) == (browser, system)


@pytest.mark.parametrize("agent", [..., "", "   "])
def test_a_page_without_a_user_agent_is_a_bots(agent: Any) -> None:
    """A server that leaves it out is not: a public key's purchase would else take its order."""
    assert row(user_agent=agent, url=SHOP, sent_by="public_key")["is_bot"]
    assert not row(user_agent=agent, sent_by="public_key")["is_bot"]
    assert not row(user_agent=agent, url=SHOP)["is_bot"]


def test_the_ip_is_nowhere_in_a_row() -> None:
    found = processed(raw(ip="203.0.113.7"))
    assert "ip" not in found.rows.columns
    assert "203.0.113.7" not in str(found.rows.to_dicts())


def test_items_are_rows_of_their_own_and_units_their_sum() -> None:
    items = [{"product_id": "a", "quantity": 2, "price": "3.50"}, {"product_id": "b"}]
    found = processed(raw(event="purchase", order_id="o", value="7", currency="EUR", items=items))
    assert found.rows.get_column("units").to_list() == [3]
    assert found.items.select("product_id", "quantity", "price_minor", "item_index").rows() == [
        ("a", 2, 350, 0),
        ("b", 1, None, 1),
    ]


def test_a_product_at_top_level_is_one_item() -> None:
    found = processed(raw(event="view_item", product_id="a"), raw(event="view_item"))
    assert found.items.select("product_id", "quantity", "log_offset").rows() == [("a", 1, 100)]


def test_columns_stand_in_the_tables_order() -> None:
    found = processed(raw(), raw(items=[{"product_id": "a"}]))
    assert tuple(found.rows.columns) == tuple(ROW_COLUMNS)
    assert tuple(found.items.columns) == tuple(ITEM_COLUMNS)


def test_time_is_an_instant_in_utc() -> None:
    assert row(timestamp="2026-09-21T16:13:20.5+02:00")["ts"] == datetime(
        2026, 9, 21, 14, 13, 20, 500_000, UTC
    )


def test_the_same_batch_gives_the_same_rows_whether_memories_are_warm_or_cold() -> None:
    values = [raw(url=f"{SHOP}{n}?utm_source=s{n % 3}", user_agent=CHROME) for n in range(50)]
    values += [raw(event="view_item", product_id="p", user_agent=IPHONE), raw(user_agent=...)]
    warm = Enrichment(VISITOR_HASH)
    first = process(batch(list(values)), limits=Limits(), enrichment=warm)
    second = process(batch(list(values)), limits=Limits(), enrichment=warm)
    alone = [
        process(batch([v]), limits=Limits(), enrichment=Enrichment(VISITOR_HASH)).rows
        for v in values
    ]
    assert first.rows.equals(second.rows)
    without_place = pl.exclude("log_offset")
    assert first.rows.select(without_place).equals(pl.concat(alone).select(without_place))


def test_an_order_of_rows_does_not_change_them() -> None:
    values = [raw(event_id=str(n), country="DE" if n % 2 else ...) for n in range(20)]
    forwards = processed(*values).rows
    backwards = processed(*reversed(values)).rows
    same = pl.exclude("log_offset")
    assert forwards.select(same).equals(backwards.reverse().select(same))


def test_now_is_the_log_time() -> None:
    assert row(timestamp=...)["ts"] == datetime.fromtimestamp(NOW_MS / 1000, UTC)
