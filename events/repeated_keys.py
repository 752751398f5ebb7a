"""An object that gives a key twice: the first counts, for every reader alike.

JSON leaves it open. polars takes the first and msgspec the last, so with a repeated `merchant_id`
check and columns would see different merchants. What msgspec is to read is rewritten first.
"""

import json
import re
from typing import Any, Final

import msgspec

_KEYS: Final = re.compile(rb'"([a-z_]+)"[ \t\r\n]*+:')  # those of ours; an escaped one has a \u
_encode: Final = msgspec.json.Encoder().encode


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


def _as_sent(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_first, parse_int=_as_sent, parse_float=_as_sent, parse_constant=_as_sent
).decode


def first_of_each(raw: bytes) -> bytes:
    """The same JSON without later values of a key; unchanged where no key of ours is repeated,
    or where it is no JSON."""
    keys = _KEYS.findall(raw)
    if len(keys) == len(set(keys)) and b"\\u" not in raw:
        return raw
    return _rewritten(raw)


def first_of(raw: bytes, name: bytes) -> bytes:
    """The same where only one key matters: its first value is the only one."""
    return raw if raw.count(name) == 1 and b"\\u" not in raw else _rewritten(raw)


def _rewritten(raw: bytes) -> bytes:
    try:
        return _encode(_decode(raw.decode()))
    except (ValueError, RecursionError):  # no JSON, or no text: the check says what is wrong
        return raw
