"""Columns and row-by-row check give one verdict, and nothing harms what stands beside it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.batch import Messages
from events.check import Event, Rejection, check
from events.decode import decode
from events.limits import Limits
from events.privacy import redact
from tests.unit.broken import BROKEN
from tests.unit.messages import NOW_MS, batch, event, raw

LIMITS = Limits()
GOOD = [raw(event_id=f"g-{number}", url=f"https://a.example/{number}") for number in range(40)]


@pytest.mark.parametrize("place", [0, 20, 40], ids=["first", "mid", "last"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_event_anywhere_is_one_reject_and_the_rest_are_rows(name: str, place: int) -> None:
    value, reason, field = BROKEN[name]
    values: list[bytes | None] = [*GOOD[:place], value, *GOOD[place:]]
    decoded = decode(batch(values), LIMITS)
    assert decoded.events.height == len(GOOD)
    assert place not in decoded.events.get_column("place").to_list()
    (reject,) = decoded.rejects.iter_rows(named=True)
    assert (reject["reason"], reject["field"]) == (reason, field)
    assert (reject["log_offset"], reject["raw"]) == (100 + place, redact(value))


def test_all_broken_at_once() -> None:
    values = [value for value, _, _ in BROKEN.values()]
    decoded = decode(batch(values), LIMITS)
    assert decoded.events.is_empty()
    found = decoded.rejects.get_column("reason").to_list()
    assert found == [reason for _, reason, _ in BROKEN.values()]


def test_an_empty_batch_is_empty() -> None:
    decoded = decode(batch([]), LIMITS)
    assert decoded.events.is_empty()
    assert decoded.rejects.is_empty()


def test_what_the_columns_do_not_understand_at_once_is_still_accepted() -> None:
    odd = [
        raw(value=19.99, currency="EUR"),
        raw(timestamp="2026-09-21 14:13:20Z"),
        raw(visitor_id="{braces}"),
        raw(visitor_id="ü" * 100),
        raw(visitor_id=17),
        raw(event="purchase", order_id=0),
        raw(event="purchase", order_id=False),
        raw(event_id="a\nb"),
        raw(properties={"a": "{", "b": 'c:"d"', "c": "ü\n"}),
        raw(timestamp=...),
        b" " + raw() + b"  ",
        json.dumps(
            event(items=[{"product_id": "p", "price": 1.5}], currency="EUR"), indent=1
        ).encode(),
    ]
    decoded = decode(batch([*odd, *GOOD]), LIMITS)
    assert decoded.rejects.is_empty(), decoded.rejects
    assert decoded.events.height == len(odd) + len(GOOD)


def test_properties_keep_the_text_that_was_sent() -> None:
    sent = {"n": 1.50, "t": 'quote " and \\ and é', "b": True, "z": None}
    decoded = decode(batch([raw(properties=sent), raw()]), LIMITS)
    kept, none = decoded.events.get_column("properties").to_list()
    assert json.loads(kept) == sent
    assert none is None


def test_a_missing_time_is_the_logs() -> None:
    decoded = decode(batch([raw(timestamp=...)], logged_ms=NOW_MS - 5), LIMITS)
    assert decoded.events.get_column("ts_ms").to_list() == [NOW_MS - 5]


TEXT = st.text(st.characters(codec=None), max_size=140)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT)
AMOUNT = st.one_of(
    st.decimals(0, 10**13, places=3).map(str), st.integers(-5, 10**13), st.floats(0, 1e6), TEXT
)
FIELD: dict[str, st.SearchStrategy[Any]] = {
    "merchant_id": st.one_of(st.integers(-1, 2**64), SCALAR),
    "event": st.one_of(st.sampled_from(["purchase", "refund", "page_view", "view_item"]), TEXT),
    "timestamp": st.one_of(
        st.integers(NOW_MS - 10**11, NOW_MS + 10**8),
        st.datetimes().map(lambda at: at.isoformat() + "Z"),
        SCALAR,
    ),
    "event_id": SCALAR,
    "visitor_id": SCALAR,
    "session_id": SCALAR,
    "url": st.one_of(TEXT, st.just("https://a.example/p?utm_source=x#f")),
    "referrer": SCALAR,
    "user_agent": SCALAR,
    "country": st.one_of(st.sampled_from(["DE", "de", "XX"]), SCALAR),
    "value": st.one_of(AMOUNT, SCALAR),
    "currency": st.one_of(st.sampled_from(["EUR", "JPY", "KWD", "CLF", "XXX"]), SCALAR),
    "order_id": SCALAR,
    "product_id": SCALAR,
    "quantity": st.one_of(st.integers(-1, 2**33), SCALAR),
    "items": st.one_of(
        st.lists(
            st.fixed_dictionaries(
                {}, optional={"product_id": SCALAR, "quantity": SCALAR, "price": AMOUNT}
            ),
            max_size=3,
        ),
        SCALAR,
    ),
    "properties": st.one_of(
        st.dictionaries(TEXT, st.one_of(SCALAR, st.lists(SCALAR, max_size=2)), max_size=4), SCALAR
    ),
}


@st.composite
def nearly_good(draw: st.DrawFn) -> bytes:
    """A good event with up to three of its fields replaced by anything."""
    chosen = draw(st.sets(st.sampled_from(sorted(FIELD)), max_size=3))
    fields = event(**{name: draw(FIELD[name]) for name in sorted(chosen)})
    text = json.dumps(fields, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


def by_rows(messages: Messages) -> tuple[set[int], dict[int, str]]:
    """Accepted places, and the reasons of the others, as the row-by-row check decides."""
    accepted, refused = set(), {}
    for place, value in enumerate(messages.values):
        found = check(value, now_ms=int(messages.logged_ms[place]), limits=LIMITS)
        if isinstance(found, Rejection):
            refused[place] = str(found.reason)
        else:
            accepted.add(place)
    return accepted, refused


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(nearly_good(), st.binary(max_size=40)), min_size=1, max_size=12))
def test_columns_and_rows_give_one_verdict(values: list[bytes]) -> None:
    messages = batch(list(values))
    accepted, refused = by_rows(messages)
    decoded = decode(messages, LIMITS)
    assert set(decoded.events.get_column("place").to_list()) == accepted
    places = [offset - 100 for offset in decoded.rejects.get_column("log_offset").to_list()]
    reasons = decoded.rejects.get_column("reason").to_list()
    assert dict(zip(places, reasons, strict=True)) == refused


@settings(max_examples=200, deadline=None)
@given(nearly_good())
def test_columns_hold_what_the_rows_say(value: bytes) -> None:
    found = check(value, now_ms=NOW_MS, limits=LIMITS)
    if not isinstance(found, Event):
        return
    (row,) = decode(batch([value, GOOD[0]]), LIMITS).events.head(1).iter_rows(named=True)
    assert row["merchant_id"] == found.merchant_id
    assert row["ts_ms"] == (NOW_MS if found.timestamp is None else found.timestamp)
    for name in ("event", "session_id", "url", "order_id", "event_id"):
        said = getattr(found, name)
        if isinstance(said, str):
            assert row[name] == said
