"""The contract, event by event."""

import msgspec
import pytest

from events.check import Event, Rejection, check
from events.limits import Limits
from events.reasons import Reason
from tests.unit.broken import BROKEN
from tests.unit.messages import NOW_MS, raw

LIMITS = Limits()


def verdict(value: bytes | None, **how: object) -> Event | Rejection:
    """As the topic's events are judged."""
    return check(value, now_ms=NOW_MS, limits=LIMITS, **how)  # type: ignore[arg-type]  # passed on


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_rule_has_its_reason_and_field(name: str) -> None:
    value, reason, field = BROKEN[name]
    found = verdict(value)
    assert isinstance(found, Rejection)
    assert (found.reason, found.field) == (reason, field), found.detail


def test_a_rejection_names_merchant_and_event_where_they_can_be_read() -> None:
    found = verdict(raw(country="ZZ", merchant_id=42, event_id="e-9"))
    assert isinstance(found, Rejection)
    assert (found.merchant_id, found.event_id) == (42, "e-9")


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        (NOW_MS, NOW_MS),
        (str(NOW_MS), NOW_MS),
        ("2026-09-21T14:13:20Z", NOW_MS),
        ("2026-09-21T16:13:20+02:00", NOW_MS),
        ("2026-09-21T19:58:20.000+05:45", NOW_MS),
        ("2026-09-21T14:13:20.123456789Z", NOW_MS + 123),
        (NOW_MS + 3_600_000, NOW_MS + 3_600_000),
        (NOW_MS - 365 * 86_400_000, NOW_MS - 365 * 86_400_000),
    ],
)
def test_every_form_of_a_time_is_read(given: object, ms: int) -> None:
    found = verdict(raw(timestamp=given))
    assert isinstance(found, Event)
    assert found.timestamp == ms


@pytest.mark.parametrize(
    ("value", "currency"),
    [("19.99", "EUR"), (19.99, "EUR"), ("5", "JPY"), (5, "JPY"), ("1.234", "KWD"), ("5.00", "JPY")],
)
def test_money_of_every_exponent_is_accepted(value: object, currency: str) -> None:
    assert isinstance(verdict(raw(value=value, currency=currency)), Event)


def test_over_http_an_unknown_field_is_refused_and_on_the_topic_it_is_not() -> None:
    assert isinstance(verdict(raw(colour="red")), Event)
    found = verdict(raw(colour="red"), over_http=True)
    assert isinstance(found, Rejection)
    assert (found.reason, found.field) == (Reason.UNKNOWN_FIELD, "colour")


def test_over_http_the_merchant_is_the_keys() -> None:
    mine = verdict(raw(merchant_id=...), merchant_id=7, over_http=True)
    assert isinstance(mine, Event)
    assert mine.merchant_id == 7
    other = verdict(raw(merchant_id=8), merchant_id=7, over_http=True)
    assert isinstance(other, Rejection)
    assert other.reason == Reason.MERCHANT_MISMATCH


def test_a_wider_past_bound_lets_a_backfill_in() -> None:
    old = raw(timestamp=NOW_MS - 2000 * 86_400_000)
    wide = check(old, now_ms=NOW_MS, limits=Limits(max_age_days=2500))
    assert isinstance(wide, Event)


def test_a_repeated_key_takes_the_first_value() -> None:
    twice = raw(country="DE").replace(b'"country"', b'"country": "FR", "country"')
    found = verdict(twice)
    assert isinstance(found, Event)
    assert found.country == "FR"


def test_details_never_hold_more_than_a_sentence() -> None:
    for name, (value, _, _) in BROKEN.items():
        found = verdict(value)
        assert isinstance(found, Rejection)
        assert 0 < len(found.detail) < 300, name


def test_an_event_is_written_as_it_was_read() -> None:
    found = verdict(raw(country="DE", items=[{"product_id": "p", "price": "1.00"}], currency="EUR"))
    again = verdict(msgspec.json.encode(found))
    assert again == found
