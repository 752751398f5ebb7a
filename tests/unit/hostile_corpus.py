"""Hostile inputs, kept: those that once raised or split the two verdicts, and their relatives.

Each is to end as a row or a reject, by one verdict, whatever else is in its batch. Add what a
fuzzer finds to `FOUND`.
"""
# ruff: noqa: RUF001

from typing import Any, Final

from tests.unit.messages import NOW_MS, raw


def with_text(name: str, text: str | bytes, **fields: Any) -> bytes:
    """A good event in which a field holds this raw JSON, whether it is JSON or not."""
    value = text if isinstance(text, bytes) else text.encode()
    return raw(**{"currency": "EUR", **fields, name: "@@"}).replace(b'"@@"', value)


FRAGMENTS: Final = [
    r'"\ud83d"', r'"\uDe00"', r'"\ud83d\ude00"', r'"\ud83dx"', r'"\\ud83d"', r'{"\ud83c": 1}',
    r'"\ud83d\u0041"', r'"\u0000"', r'"\u00zz"', r'"\u12"', r'"\x"', r'"\/"', '"a\x01"', '"\t"',
    '"\x7f"', '"\u2028"', "null", "true", "tru", "NaN", "Infinity", "-", "-0", "-0.0", "01", "1.",
    ".5", "+1", "0x10", "1e", "1e5", "1E-2", "1e400", "-1e400", "1e-400", "9" * 30, "9" * 5000,
    "1" + "0" * 400 + ".5", "9223372036854775807", "9223372036854775808", "18446744073709551616",
    "2147483648", "1.0", "1.5", "0.1", '""', '" "', '"."', '"5."', '".5"', '" 5"', '"+5"', '"-5"',
    '"1e3"', '"0x5"', '"1_000"', '"١٩"', '"٠.٥"', '"1.٥"', '"１２"', '"1000000000"',
    '"1000000000.0000"', '"1000000000.01"', '"1000000001"', '"99999999999.99"', '"000000000001"',
    '"1.' + "0" * 5000 + '"', "[]", "{}", "[1,]", '{"a":1,}', '{"a":1,"a":2}', "[null]", "[[1]]",
    "[{}]", '[{"product_id": "p"}, null]', '[{"product_id": {}}]', '{"product_id": "p"}', "1 2",
    "/**/1", '"{"', '"["', '"{\\"a\\":1}"', "[" * 250 + "]" * 250, "[" * 257 + "]" * 257,
    "[" * 900 + "]" * 900, "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 3000,
    '"' + "{[" * 400 + '"',
]  # fmt: skip
FIELDS: Final = (
    "merchant_id event timestamp event_id visitor_id session_id url referrer user_agent ip country "
    "value currency order_id product_id quantity items properties unknown"
).split()
TIMES: Final = [
    "2026-9-21T14:13:20Z", "2026-09-21T4:13:20Z", "2026-09-21T14:13:2Z", "+2026-09-21T14:13:20Z",
    "2026-09-21T14:13:60Z", "2026-09-21T14:13:20.Z", " 2026-09-21T14:13:20Z", f"+{NOW_MS}",
    "2026-09-21T14:13:20Z ", f" {NOW_MS}", f"0{NOW_MS}", f"00{NOW_MS}", f"000{NOW_MS}", "-5",
    "2026-09-21t14:13:20z", "2026-09-21T14:13:20+0200", "2026-09-21T14:13:20+02",
    "2026-09-21T14:13:20+24:00", "2026-09-21T14:13:20-99:99", "2026-09-21T14:13:20+02:00:30",
    "2026-09-21T14:13:20.1234567891Z", "2026-09-21T14:13:20,5Z", "2026-W39-1T14:13:20Z",
    "20260921T141320Z", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "262143-12-31T00:00:00Z",
    "２０２６-09-21T14:13:20Z", "2026-09-21T14:13:20.١Z", "1" * 15, "1" * 16, "1" * 5000,
]  # fmt: skip
ISSUE: Final = [
    rb'{"merchant_id":1,"event":"page_view","visitor_id":"v","x":"\ud83d","properties":{"a":1}}',
    '{"merchant_id":1,"event":"purchase","visitor_id":"v","order_id":"o","currency":"EUR",'
    '"value":"١٩"}'.encode(),
    raw(items=[{"product_id": "p", "price": "99999999999.99", "quantity": 10**6}], currency="EUR"),
    raw(
        event="purchase",
        order_id="o",
        items=[{"product_id": "p", "price": "99999999999.9999"}],
        currency="CLF",
    ),
    with_text("value", '"1.' + "0" * 1_040_000 + '"'),
    with_text("url", r'"\ud83c"'),
]
FOUND: Final[list[bytes]] = [
    b"\xef\xbb\xbf" + raw(),
    b'{"merchant_id":1,"merchant_id":2,"event":"page_view","visitor_id":"v","visitor_id":null}',
    b'{"event":"page_view","visitor_id":"v","merchant_id":7,"zz":"\\\\ud83d\\ud83d\\ude00"}',
    b'{"a":"' + b'"' * 3000,
    b'{"a":' + b"[" * 500 + b'"]]]"',
    b"{" * 600 + b"}" * 600,
    raw(url="{" * 300, referrer="[" * 300),
    raw(properties={"n": 2**70}),
    with_text("timestamp", f"{NOW_MS / 1e12}e12"),
    with_text("timestamp", f"{NOW_MS}.0"),
    with_text("timestamp", f"{NOW_MS}.5"),
    with_text("timestamp", "1e15"),
]
CORPUS: Final[list[bytes]] = [
    *ISSUE,
    *FOUND,
    *(with_text(name, text) for name in FIELDS for text in FRAGMENTS),
    *(with_text("unknown", text, properties={"a": 1}) for text in FRAGMENTS),
    *(
        raw(currency="EUR", items=[{"product_id": "p", name: "@@"}]).replace(b'"@@"', text.encode())
        for name in ("product_id", "quantity", "price", "unknown")
        for text in FRAGMENTS
    ),
    *(raw(properties={"a": "@@"}).replace(b'"@@"', text.encode()) for text in FRAGMENTS),
    *(raw(timestamp=at) for at in TIMES),
]
LOG_TIMES: Final = [
    -(2**63), -(2**41), -1, 0, 1, NOW_MS, 4_102_444_799_999, 4_102_444_800_000,
    NOW_MS * 1000, NOW_MS * 10**6, 2**63 - 1,
]  # fmt: skip
