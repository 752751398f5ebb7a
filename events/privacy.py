"""Personal data that is used on the way in and then dropped: ip, queries and fragments of urls.

The API removes them before an event reaches the log. Producers that write the topic directly are
asked to do the same; the ingester stores none of it either, not even in the raw bytes of a reject.
"""

import re
from typing import Final

import msgspec

from events.check import Event

# Ad click ids; with utm_* the only query parameters that say where a visit came from.
CLICK_IDS: Final = frozenset(
    "gclid gbraid wbraid gad_campaignid dclid msclkid fbclid ttclid twclid li_fat_id epik rdt_cid "
    "sccid yclid".split()
)
REDACTED: Final = "redacted"

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
# Values of the three fields in bytes that are no readable JSON; linear in their length.
_UNREADABLE: Final = re.compile(rb'("(?:ip|url|referrer)"\s*:\s*")((?:[^"\\]|\\.)*)', re.DOTALL)


def remove_personal_data(event: Event) -> None:
    """Drop `ip`, and what is private of `url` and `referrer`."""
    event.ip = None
    if isinstance(event.url, str):
        event.url = public_url(event.url)
    if isinstance(event.referrer, str):
        event.referrer = public_url(event.referrer)


def public_url(url: str) -> str:
    """A url without user, password, fragment and every query parameter but utm_* and click ids."""
    base, question, query = url.partition("#")[0].partition("?")
    scheme, separator, rest = base.partition("//")
    if separator and (not scheme or scheme.endswith(":")):
        authority, slash, path = rest.partition("/")
        base = f"{scheme}//{authority.rpartition('@')[2]}{slash}{path}"
    if not question:
        return base
    kept = "&".join(part for part in query.split("&") if _tells_the_source(part))
    return f"{base}?{kept}" if kept else base


def _tells_the_source(parameter: str) -> bool:
    name = parameter.partition("=")[0].removeprefix("amp;").lower()
    return name.startswith("utm_") or name in CLICK_IDS


def redact(raw: bytes | None) -> bytes | None:
    """A message's bytes without personal data, for the table of rejects.

    Bytes without any are returned as they are. Readable JSON loses exactly what
    `remove_personal_data` drops. In anything else the values that look like those fields are cut
    likewise; `ip` and values with escapes go whole.
    """
    if not raw or not any(name in raw for name in (b"ip", b"url", b"referrer", b"\\u")):
        return raw
    try:
        fields = _object(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNREADABLE.sub(_cut, raw)
    changes = {
        name: changed
        for name in ("ip", "url", "referrer")
        if name in fields and (changed := _redacted(name, fields[name])) is not None
    }
    return _encode(fields | changes) if changes else raw


def _redacted(name: str, value: msgspec.Raw) -> str | None:
    """What stands in a value's place; None where it may stay."""
    try:
        text = _text(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return REDACTED
    public = REDACTED if name == "ip" else public_url(text)
    return None if public == text else public


def _cut(found: re.Match[bytes]) -> bytes:
    if found[1].startswith(b'"ip"') or b"\\" in found[2]:
        return found[1] + REDACTED.encode()
    return found[1] + public_url(found[2].decode("latin-1")).encode("latin-1")
