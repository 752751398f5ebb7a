"""Web origins, as browsers write them in the header `Origin`."""

import re
from collections.abc import Sequence
from typing import Final

MAX_ORIGINS: Final = 50
_ORIGIN: Final = re.compile(
    r"https?://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)"
    r"(:[1-9]\d{0,4})?\Z"
)
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}


class OriginError(ValueError):
    """An origin that no browser would send, or a key that cannot have any."""


def checked_origins(given: Sequence[str], scopes: Sequence[str]) -> tuple[str, ...]:
    """The origins of a key, each once, as browsers write them.

    Raises:
        OriginError: the sentence says what to write instead.
    """
    if given and list(scopes) != ["events:write"]:
        raise OriginError(
            "A key with origins stands in pages that anyone can read: "
            "give it the scope events:write and no other."
        )
    if len(given) > MAX_ORIGINS:
        raise OriginError(f"A key has at most {MAX_ORIGINS} origins.")
    return tuple(dict.fromkeys(_checked(origin) for origin in given))


def _checked(origin: str) -> str:
    written = origin.strip().lower().removesuffix("/")
    scheme = written.partition("://")[0]
    written = written.removesuffix(_DEFAULT_PORTS.get(scheme, "\0"))
    if len(written) > 255 or not _ORIGIN.match(written):
        raise OriginError(
            f"{origin[:80]!r} is no origin: write scheme and host, "
            "and the port where it is not the usual one, as https://shop.example"
        )
    return written
