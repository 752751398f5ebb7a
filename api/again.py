"""A request asked again, byte for byte, is answered before it is parsed.

Whoever asked it was let in a moment ago, and what it means was found out then. Both are believed
while the memories of the catalogue say the same (`api.memory`), and within the quarter of an hour:
`7d` means other days after midnight, and midnight is at a whole quarter everywhere.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from cachetools import LRUCache
from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.limits import charge_key
from api.query.kept import Kept
from api.query.periods import Period
from api.query.place import Place
from api.state import State
from db.catalogue import Key, Merchant, hashed_key

_BODY_BYTES: Final = 16_384  # a longer one is parsed each time
_MOST: Final = 20_000
_QUARTER_S: Final = 900
# What an answer depends on beside method, path, query and body.
_HEADERS: Final = (b"authorization", b"accept", b"content-type", b"content-encoding")
_NOTE: Final = "footfall_note"


@dataclass(frozen=True, slots=True)
class Meant:
    """What a request came to: who asked, about whom, and under what its answer is kept."""

    key_hash: bytes
    key: Key
    merchant: Merchant
    place: Place
    question: bytes  # its name among the answers
    period: Period | None
    points: int


class Again(ASGIMiddleware):
    """The innermost of the middlewares: limits and telemetry see every request."""

    scopes = (ScopeType.HTTP,)

    def __init__(self) -> None:
        self._quarter = 0
        self._meant: LRUCache[bytes, Meant] = LRUCache(_MOST)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Answer from memory, or have the request parsed."""
        asked: Any = scope  # a dict, in which middlewares leave what they found
        body = b""
        if asked["method"] == "POST":
            first: Any = await receive()
            receive = _replayed(first, receive)
            body = first.get("body", b"")
            if first.get("more_body") or len(body) > _BODY_BYTES:
                await next_app(scope, receive, send)
                return
        sent = dict(asked["headers"])
        if len(sent) < len(asked["headers"]):  # one of them twice: which is meant, others know
            await next_app(scope, receive, send)
            return
        told = tuple(sent.get(name) for name in _HEADERS)
        request = _digest(asked["method"], asked["path"], asked["query_string"], body, *told)
        quarter = int(time.time() // _QUARTER_S)
        if quarter != self._quarter:
            self._meant.clear()
            self._quarter = quarter
        meant = self._meant.get(request)
        if meant is not None:
            kept = _kept(scope["litestar_app"].state.footfall, meant)
            if kept is not None:
                footfall: State = scope["litestar_app"].state.footfall
                charge_key(
                    meant.key,
                    scope,
                    footfall.settings.rate_limits,
                    footfall.counters,
                    meant.points,
                )
                known = asked["method"] == "GET" and kept.is_known(
                    sent.get(b"if-none-match", b"").decode("latin-1")
                )
                await _send(send, kept, known=known)
                return

        def note(understood: Meant) -> None:
            if quarter == self._quarter:
                self._meant[request] = understood

        asked[_NOTE] = note
        await next_app(scope, receive, send)


def _digest(*parts: bytes | str | None) -> bytes:
    """A request's name: fixed in size, whatever was sent."""
    return blake2b(repr(parts).encode(), digest_size=16).digest()


def note(scope: Any, footfall: State, understood: Callable[[bytes, Key], Meant]) -> None:
    """The request was understood: should it come again, this is what it means."""
    tell = scope.get(_NOTE)
    bearer = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    key_hash = hashed_key(bearer.partition(" ")[2].strip())
    key = footfall.keys.held(key_hash)
    if tell is not None and key is not None:
        tell(understood(key_hash, key))


def _kept(footfall: State, meant: Meant) -> Kept | None:
    """The answer, where nothing has changed that stands between the request and it."""
    merchant_id = meant.merchant.merchant_id
    if (
        footfall.keys.held(meant.key_hash) != meant.key
        or meant.key.has_expired
        or footfall.merchants.held(merchant_id) != meant.merchant
        or footfall.shard_of(merchant_id) != meant.place.shard
    ):
        return None
    now = footfall.stand(meant.place, merchant_id)
    return footfall.answers.held(meant.question, meant.place.shard, now, meant.period)


async def _send(send: Send, kept: Kept, *, known: bool) -> None:
    body = b"" if known else kept.body
    headers = [(name.lower().encode(), value.encode()) for name, value in kept.headers.items()]
    headers.append((b"content-length", b"%d" % len(body)))
    if not known:
        headers.append((b"content-type", b"application/json"))
    await send(
        {
            "type": "http.response.start",
            "status": 304 if known else 200,
            "headers": headers,
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _replayed(first: Message, receive: Receive) -> Receive:
    """What is received, the first message once more before the rest."""
    waiting = [first]

    async def again() -> Any:
        return waiting.pop() if waiting else await receive()

    return again
