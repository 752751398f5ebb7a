"""Who asks, and what they may: bearer keys, their scopes, and the merchant they belong to."""

import re
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.headers import allow_origin
from api.limits import charge_failure, charge_key
from api.problems import problem
from api.state import State, no_such_merchant
from db.catalogue import Key, hashed_key

FORM: Final = re.compile(r"ff_[A-Za-z0-9_-]{43}")  # anything else is no key: it is not looked up
_FOUND: Final = "footfall_key"
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}

Connection = ASGIConnection[Any, Any, Any, Any]


async def authenticated(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard: the key is looked at before anything else of the request is read or parsed.

    Raises:
        ProblemDetailsException: 401 as `the_key`; 429, the key has no points left.
    """
    connection.scope["state"][_FOUND] = await _bearer(connection, connection.app.state.footfall)


async def the_key(request: Request[Any, Any, Any], state: State) -> Key:
    """The valid key of a request, as its guard found it.

    Raises:
        ProblemDetailsException: 401, with what is wrong with the header or the key.
    """
    found: Key | None = request.scope["state"].get(_FOUND)
    return found if found is not None else await _bearer(request, state)


async def _bearer(connection: Connection, state: State) -> Key:
    given = connection.headers.getall("authorization", [])
    scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not text.strip():
        raise problem(
            401, "no_key", "Send your key as `Authorization: Bearer ff_…`.", headers=_CHALLENGE
        )
    return await _valid(text.strip(), connection, state)


async def the_sender(request: Request[Any, Any, Any], state: State) -> Key:
    """The valid key that a request with events bears: in its header or, from a browser's page,
    in its address, because `navigator.sendBeacon` cannot set headers.

    An address may be written to logs on its way, so only a key may stand there that is public
    anyway: one with origins. Such a key is good for its origins alone, however it is sent.

    Raises:
        ProblemDetailsException: 401 as `the_key`; 403 for a secret key in an address or an origin
            that is not the key's; 415 for anything but text/plain with a key in the address.
    """
    in_address = request.query_params.get("key")
    if in_address is None or "authorization" in request.headers:
        key = await the_key(request, state)
    else:
        key = await _valid(in_address, request, state)
        if not key.origins:
            raise problem(
                403,
                "secret_key_in_address",
                "Only a key made with origins may stand in an address. This one is secret and may "
                "have been written to logs on its way: revoke it, and send keys in a header.",
            )
        kind = request.headers.get("content-type", "").split(";", maxsplit=1)[0].strip().lower()
        if kind != "text/plain":
            raise problem(
                415, "not_plain_text", "With the key in the address, send Content-Type: text/plain."
            )
    if key.origins:
        origin = request.headers.get("origin", "")
        if origin not in key.origins:
            raise problem(
                403, "origin_not_allowed", "This key is not for pages of this origin, or of none."
            )
    return key


async def _valid(text: str, connection: Connection, state: State) -> Key:
    """The key of that text, charged for this request."""
    key = await state.keys.get(hashed_key(text)) if FORM.fullmatch(text) else None
    if key is None or key.revoked_at is not None or key.has_expired:
        charge_failure(connection.scope, state.settings.rate_limits, state.counters)
        if key is None:
            raise problem(401, "unknown_key", "There is no such key.", headers=_CHALLENGE)
        if key.revoked_at is not None:
            raise problem(
                401, "revoked_key", "This key was revoked: make a new one.", headers=_CHALLENGE
            )
        raise problem(
            401, "expired_key", "This key has expired: make a new one.", headers=_CHALLENGE
        )
    state.key_uses.note(key)
    origin = connection.headers.get("origin")
    if origin is not None and origin in key.origins:
        allow_origin(connection.scope, origin)  # its page may read what follows, refusals too
    charge_key(key, connection.scope, state.settings.rate_limits, state.counters)
    return key


def require(key: Key, scope: str) -> None:
    """Refuse a key without the scope. An operator's key may do everything.

    Raises:
        ProblemDetailsException: 403.
    """
    if scope not in key.scopes and "admin" not in key.scopes:
        raise problem(403, "missing_scope", f"This needs a key with the scope {scope}.")


def merchant_of(key: Key, asked: int | None) -> int:
    """The merchant that a request is about: the key's own, or any for an operator.

    Raises:
        ProblemDetailsException: 404 for another merchant's, 400 where an operator names none.
    """
    if key.merchant_id is not None:
        if asked not in (None, key.merchant_id):
            raise no_such_merchant()
        return key.merchant_id
    if asked is None:
        raise problem(400, "no_merchant", "An operator's key must name the merchant_id.")
    return asked
