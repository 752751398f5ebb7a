"""Headers that every answer bears, whoever made it: for browsers, what they must not do with it."""

from typing import Any, Final

from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

ALLOWED_ORIGIN: Final = "footfall_allowed_origin"

_EVERY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _encoded(own: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """As they are sent, those of every answer among them."""
    return [(name.lower().encode(), value.encode()) for name, value in {**_EVERY, **own}.items()]


_DATA: Final = _encoded(
    {
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
    }
)
# The documentation page is Litestar's and starts by a script within the page. It shows our own
# description of the API and nothing that anyone sent.
_DOCUMENTATION: Final = _encoded(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self' 'unsafe-inline'; "
            "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    }
)


async def harden(message: Message, scope: Scope) -> None:
    """Add to an answer what its maker did not set. Runs on refusals and crashes as well."""
    if message["type"] != "http.response.start":
        return
    kind = _DOCUMENTATION if scope["path"].startswith("/schema") else _DATA
    given = list(message.get("headers", ()))
    names = {name.lower() for name, _ in given}
    message["headers"] = [*given, *(pair for pair in kind if pair[0] not in names)]
    if scope["path"] == "/v1/events":
        MutableScopeHeaders.from_message(message).update(_cors(scope))


def allow_origin(scope: Scope, origin: str) -> None:
    """Let the scripts of an origin, which was found among a key's, read this answer."""
    scope["state"][ALLOWED_ORIGIN] = origin


def _cors(scope: Scope) -> dict[str, Any]:
    """Nothing where the origin was not allowed: the browser then keeps the answer to itself."""
    vary = {"Vary": "Origin"}
    origin = scope["state"].get(ALLOWED_ORIGIN)
    if origin is None:
        return vary
    return {
        **vary,
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
    }
