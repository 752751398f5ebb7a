"""One event against the contract, row by row: slow, exact, and able to say what is wrong.

The columnar pass (`events.decode`) decides for nearly all events and asks here about those that it
would not let pass; the collecting API asks here about each event that it is sent.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from events.countries import COUNTRIES
from events.limits import Limits, is_credible
from events.money import EXPONENTS, MAX_AMOUNT, MAX_WHOLE_DIGITS
from events.nesting import MAX_DEPTH, is_too_deep
from events.reasons import Reason
from events.repeated_keys import first_of_each

MAX_ITEMS: Final = 200
MAX_PROPERTIES: Final = 32
MAX_PROPERTIES_BYTES: Final = 8192
MAX_QUANTITY: Final = 1_000_000
MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_MERCHANT_ID: Final = 2**63 - 1
ORDER_EVENTS: Final = frozenset({"purchase", "refund"})
TEXT_LIMITS: Final[dict[str, int]] = {
    "event_id": 64,
    "visitor_id": 128,
    "session_id": 128,
    "url": 2048,
    "referrer": 2048,
    "user_agent": 2048,
    "ip": 64,
    "order_id": 128,
    "product_id": 128,
}
EVENT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
DECIMAL: Final = re.compile(r"[0-9]+(\.[0-9]+)?\Z")

# Producers that write the topic directly may send an id as a number: its text is taken.
Id = str | int | float | bool
Scalar = str | int | float | bool | None


class Item(msgspec.Struct, omit_defaults=True):
    """One product of an event."""

    product_id: Id | None = None
    quantity: int | None = None
    price: str | int | float | None = None


class Event(msgspec.Struct, omit_defaults=True):
    """An event as clients send it and as it stands on the topic."""

    merchant_id: int | None = None
    event: Id | None = None
    timestamp: str | int | float | None = None
    event_id: Id | None = None
    visitor_id: Id | None = None
    session_id: Id | None = None
    url: Id | None = None
    referrer: Id | None = None
    user_agent: Id | None = None
    ip: Id | None = None
    country: Id | None = None
    value: str | int | float | None = None
    currency: Id | None = None
    order_id: Id | None = None
    product_id: Id | None = None
    quantity: int | None = None
    items: list[Item] | None = None
    properties: dict[str, Scalar] | None = None
    sent_by: Any = None  # "public_key" where the API took it by one; whatever else says nothing


FIELDS: Final = frozenset(Event.__struct_fields__) - {"sent_by"}  # what clients may send
PUBLIC_KEY: Final = "public_key"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The first rule that an event broke."""

    reason: Reason
    field: str | None
    detail: str
    merchant_id: int | None = None
    event_id: str | None = None
    ts_ms: int | None = None  # event time, where it could be read and kept its bounds


class _BrokenRuleError(Exception):
    def __init__(self, reason: Reason, field: str | None, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.field, self.detail = reason, field, detail


_decode = msgspec.json.Decoder(Event).decode
_decode_any = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode


def check(
    raw: bytes | None,
    *,
    now_ms: int,
    limits: Limits,
    merchant_id: int | None = None,
    over_http: bool = False,
) -> Event | Rejection:
    """The event, its timestamp as epoch milliseconds, or the rule that it breaks.

    Args:
        raw: the message's value.
        now_ms: log time, epoch milliseconds: what "too old" and "in the future" are measured from.
        limits: how far event time may lie from it.
        merchant_id: whose key sent the event; filled in, and a differing one is rejected.
        over_http: a client can mend its request, so unknown fields and loose types are rejected.
    """
    if not raw:
        return Rejection(Reason.EMPTY, None, "the message has no value")
    event: Event | None = None
    if len(raw) <= MAX_MESSAGE_BYTES:
        raw = first_of_each(raw)
    try:
        event = _decoded(raw, strict=over_http)
        if merchant_id is not None:
            if event.merchant_id not in (None, merchant_id):
                raise _BrokenRuleError(
                    Reason.MERCHANT_MISMATCH,
                    "merchant_id",
                    "the key belongs to another merchant: leave merchant_id out",
                )
            event.merchant_id = merchant_id
        _check_event(event, now_ms, limits)
    except _BrokenRuleError as broken:
        known = identity_of(raw, now_ms, limits, event)
        return Rejection(broken.reason, broken.field, broken.detail, *known)
    return event


def _decoded(raw: bytes, *, strict: bool) -> Event:
    if len(raw) > MAX_MESSAGE_BYTES:
        raise _BrokenRuleError(
            Reason.TOO_LARGE, None, f"an event is at most {MAX_MESSAGE_BYTES} bytes"
        )
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise _BrokenRuleError(
            Reason.INVALID_TEXT, None, f"not UTF-8 at byte {error.start}"
        ) from error
    if is_too_deep(raw):
        raise _BrokenRuleError(
            Reason.INVALID_JSON, None, f"nested too deeply: at most {MAX_DEPTH} levels"
        )
    try:
        event = _decode(raw)
    except msgspec.ValidationError as error:
        raise _of_validation(str(error)) from error
    except msgspec.DecodeError as error:
        if b"\\u" in raw and _is_shape(raw):
            raise _BrokenRuleError(Reason.INVALID_TEXT, None, _HALF) from error
        raise _BrokenRuleError(Reason.INVALID_JSON, None, str(error)) from error
    except RecursionError as error:  # the caller's own stack was nearly used up
        raise _BrokenRuleError(Reason.INVALID_JSON, None, "nested too deeply") from error
    if strict:
        _check_strictly(event, raw)
    return event


_HALF: Final = (
    "an escape that is no character, such as half of an emoji (\\ud83c alone): "
    "cut texts between characters"
)


def _is_shape(raw: bytes) -> bool:
    """Whether it would be JSON were it not for its escapes."""
    try:
        msgspec.json.decode(raw.replace(b"\\u", b""))
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _of_validation(said: str) -> _BrokenRuleError:
    """A broken rule from msgspec's "Expected `int`, got `str` - at `$.merchant_id`"."""
    what, _, where = said.partition(" - at `$")
    field = where.rstrip("`").lstrip(".") or None
    if field is None:
        return _BrokenRuleError(Reason.NOT_AN_OBJECT, None, "an event is a JSON object")
    if "out of range" in what:
        return _BrokenRuleError(Reason.OUT_OF_RANGE, field, what)
    return _BrokenRuleError(Reason.WRONG_TYPE, field, what)


def _check_strictly(event: Event, raw: bytes) -> None:
    for name in _decode_any(raw):
        if name not in FIELDS:
            raise _BrokenRuleError(
                Reason.UNKNOWN_FIELD, name[:64], "no such field; put your own data into properties"
            )
    for name in ("event", *TEXT_LIMITS, "country", "currency"):
        value = getattr(event, name)
        if value is not None and not isinstance(value, str):
            raise _BrokenRuleError(Reason.WRONG_TYPE, name, "a string is expected")


def identity_of(
    raw: bytes, now_ms: int, limits: Limits, event: Event | None = None
) -> tuple[int | None, str | None, int | None]:
    """Merchant, event id and event time of a rejected event, as far as they can be read."""
    try:
        if event is None:
            fields = msgspec.json.decode(first_of_each(raw))
        else:
            fields = msgspec.to_builtins(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None, None
    if not isinstance(fields, dict):
        return None, None, None
    merchant, event_id = fields.get("merchant_id"), fields.get("event_id")
    known = isinstance(merchant, int) and 1 <= merchant <= MAX_MERCHANT_ID
    return (
        merchant if known and not isinstance(merchant, bool) else None,
        event_id[:64] if isinstance(event_id, str) and "\0" not in event_id else None,
        _readable_time(fields.get("timestamp"), now_ms, limits),
    )


def _readable_time(value: object, now_ms: int, limits: Limits) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    try:
        return _check_time(value, now_ms, limits)
    except _BrokenRuleError:
        return None


def _check_event(event: Event, now_ms: int, limits: Limits) -> None:
    if event.merchant_id is None:
        raise _BrokenRuleError(Reason.MISSING, "merchant_id", "required on the topic")
    if not 1 <= event.merchant_id <= MAX_MERCHANT_ID:
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, "merchant_id", "an integer from 1")
    if event.event is None:
        raise _BrokenRuleError(Reason.MISSING, "event", "required")
    if not isinstance(event.event, str) or not EVENT_NAME.match(event.event):
        raise _BrokenRuleError(
            Reason.INVALID, "event", "a lower-case letter, then up to 63 of a-z, 0-9 and _"
        )
    if event.visitor_id is None or event.visitor_id == "":
        raise _BrokenRuleError(Reason.MISSING, "visitor_id", "required")
    for name, limit in TEXT_LIMITS.items():
        _check_text(name, getattr(event, name), limit)
    event.timestamp = _check_time(_whole(event.timestamp), now_ms, limits)
    _check_place_and_money(event)
    if event.event in ORDER_EVENTS and event.order_id in (None, ""):
        raise _BrokenRuleError(Reason.MISSING, "order_id", "required on purchase and refund")
    _check_items(event)
    _check_properties(event.properties)


def _check_text(name: str, value: Id | None, limit: int) -> None:
    if not isinstance(value, str):
        return
    if len(value) > limit:
        raise _BrokenRuleError(Reason.TOO_LONG, name, f"at most {limit} characters")
    if "\0" in value:
        raise _BrokenRuleError(Reason.INVALID_TEXT, name, "a NUL character")


def _whole(value: str | float | None) -> str | int | None:
    """A number of milliseconds in any notation (1e12, 1790000000000.0) as an integer."""
    if not isinstance(value, float):
        return value
    if not value.is_integer() or abs(value) >= 10**15:
        raise _BrokenRuleError(Reason.WRONG_TYPE, "timestamp", "whole milliseconds are expected")
    return int(value)


def _check_time(value: str | int | None, now_ms: int, limits: Limits) -> int | None:
    if value is None:
        if not is_credible(now_ms):
            raise _BrokenRuleError(
                Reason.MISSING,
                "timestamp",
                "required: the message has no credible time of its own",
            )
        return None
    ms = _epoch_ms(value)
    if ms < now_ms - limits.max_age_days * 86_400_000:
        raise _BrokenRuleError(
            Reason.TOO_OLD, "timestamp", f"more than {limits.max_age_days} days ago"
        )
    if ms > now_ms + limits.max_ahead_s * 1000:
        raise _BrokenRuleError(
            Reason.IN_FUTURE, "timestamp", f"more than {limits.max_ahead_s} s ahead of our clock"
        )
    return ms


def _epoch_ms(value: str | int) -> int:
    if isinstance(value, int) or (value.isascii() and value.isdigit()):
        ms = int(str(value)[:19])
        if abs(ms) >= 10**15:
            raise _BrokenRuleError(Reason.OUT_OF_RANGE, "timestamp", "epoch time is milliseconds")
        return ms
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise _BrokenRuleError(Reason.INVALID, "timestamp", "not an RFC 3339 time") from error
    if moment.tzinfo is None or len(value) < len("2026-01-01T00:00Z"):
        raise _BrokenRuleError(
            Reason.INVALID, "timestamp", "an offset is required: end it with Z or +02:00"
        )
    try:
        since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError as error:
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, "timestamp", "out of range") from error
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _check_place_and_money(event: Event) -> None:
    if event.country is not None and str(event.country).upper() not in COUNTRIES:
        raise _BrokenRuleError(
            Reason.UNKNOWN_COUNTRY, "country", "two letters of ISO 3166-1, as in DE"
        )
    exponent = None
    if event.currency is not None:
        exponent = EXPONENTS.get(str(event.currency))
        if exponent is None:
            raise _BrokenRuleError(
                Reason.UNKNOWN_CURRENCY, "currency", "three letters of ISO 4217, as in EUR"
            )
    if event.value is not None:
        if exponent is None:
            raise _BrokenRuleError(Reason.MISSING, "currency", "required with value")
        _check_amount("value", event.value, exponent)


def _check_amount(name: str, value: str | float, exponent: int) -> Decimal:
    """The amount in major units."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise _BrokenRuleError(Reason.WRONG_TYPE, name, "a decimal number is expected")
    text = value if isinstance(value, str) else f"{Decimal(repr(value)):f}"
    if text.startswith("-") and DECIMAL.match(text[1:]):
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, name, "money is never negative here")
    if not DECIMAL.match(text):
        raise _BrokenRuleError(Reason.INVALID, name, "a decimal number, as in 19.99")
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if len(whole) > MAX_WHOLE_DIGITS:
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, name, f"at most {MAX_AMOUNT}")
    if len(fraction) > exponent:
        raise _BrokenRuleError(
            Reason.TOO_MANY_DECIMALS, name, f"the currency has {exponent} decimals"
        )
    amount = Decimal(f"{whole}.{fraction}")
    if amount > MAX_AMOUNT:
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, name, f"at most {MAX_AMOUNT}")
    return amount


def _check_items(event: Event) -> None:
    items = event.items or []
    if len(items) > MAX_ITEMS:
        raise _BrokenRuleError(Reason.TOO_MANY, "items", f"at most {MAX_ITEMS}")
    _check_quantity("quantity", event.quantity)
    total = Decimal(0)
    for place, item in enumerate(items):
        total += _check_item(f"items[{place}]", item, event.currency)
    if total > MAX_AMOUNT:
        raise _BrokenRuleError(
            Reason.OUT_OF_RANGE, "items", f"price x quantity of all items: at most {MAX_AMOUNT}"
        )


def _check_item(name: str, item: Item, currency: Id | None) -> Decimal:
    """The item's line: price x quantity."""
    if item.product_id is None or item.product_id == "":
        raise _BrokenRuleError(Reason.MISSING, f"{name}.product_id", "required")
    _check_text(f"{name}.product_id", item.product_id, TEXT_LIMITS["product_id"])
    _check_quantity(f"{name}.quantity", item.quantity)
    if item.price is None:
        return Decimal(0)
    exponent = EXPONENTS.get(str(currency))
    if exponent is None:
        raise _BrokenRuleError(Reason.MISSING, "currency", "required with a price")
    quantity = 1 if item.quantity is None else item.quantity
    line = _check_amount(f"{name}.price", item.price, exponent) * quantity
    if line > MAX_AMOUNT:
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, name, f"price x quantity: at most {MAX_AMOUNT}")
    return line


def _check_quantity(name: str, quantity: int | None) -> None:
    if quantity is not None and not 1 <= quantity <= MAX_QUANTITY:
        raise _BrokenRuleError(Reason.OUT_OF_RANGE, name, f"from 1 to {MAX_QUANTITY}")


def _check_properties(properties: dict[str, Scalar] | None) -> None:
    if not properties:
        return
    if len(properties) > MAX_PROPERTIES:
        raise _BrokenRuleError(Reason.TOO_MANY, "properties", f"at most {MAX_PROPERTIES} keys")
    written = encode(properties)
    if len(written) > MAX_PROPERTIES_BYTES:
        raise _BrokenRuleError(
            Reason.TOO_LARGE, "properties", f"at most {MAX_PROPERTIES_BYTES} bytes as JSON"
        )
    if b"\\u0000" in written:
        raise _BrokenRuleError(Reason.INVALID_TEXT, "properties", "a NUL character")
