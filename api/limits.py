"""How much may be asked: points a minute, by address before a key is known, by key after.

Most requests cost one point, raw rows cost more. Every answer and every refusal carries headers
that say what is left. The counters are shared by the workers of a server (`api.counters`).
"""

from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.counters import WINDOW_S, Counters, seconds_left
from api.problems import problem
from api.settings import RateLimits
from db.catalogue import Key

RAW_POINTS: Final = 10  # of a question that reads raw rows
JOURNEY_POINTS: Final = 20  # of a funnel or a retention: they sort or group all of them
FAILURE_POINTS: Final = 100  # of an address, for a key that is none
MAX_QUERY_BYTES: Final = 8_192
_FREE: Final = ("/health/", "/schema", "/page/", "/footfall.js")


@dataclass(slots=True)
class Window:
    """What one name may spend in the current minute, and from which other window as well."""

    counters: Counters
    name: str
    limit: int
    beside: "Window | None" = None
    _spent: int | None = None  # after the last charge of this request

    @property
    def left(self) -> int:
        """Points that are left."""
        if self._spent is None:
            self._spent = self.counters.spent(self.name)
        return max(0, self.limit - self._spent)

    def charge(self, points: int) -> None:
        """Spend points.

        Raises:
            ProblemDetailsException: 429, there are not so many left.
        """
        self._spent = self.counters.spend(self.name, points, self.limit)
        if self._spent is None:
            wait = seconds_left()
            raise problem(
                429,
                "too_many_requests",
                f"This costs {points} of {self.limit} points a minute, and {self.left} are left: "
                f"try again in {wait} seconds.",
                headers={"Retry-After": str(wait)},
            )
        if self.beside is not None:
            self.beside.charge(points)

    @property
    def headers(self) -> dict[str, str]:
        """As the IETF's draft of rate-limit headers names them."""
        return {
            "RateLimit-Policy": f"{self.limit}; w={WINDOW_S}",
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.left),
            "RateLimit-Reset": str(seconds_left()),
        }

    @property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as they are sent."""
        return [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]


# An exception leaves the middlewares behind: its answer is written outside of them.
current: Final[ContextVar[Window | None]] = ContextVar("rate_limit", default=None)


class RateLimit(ASGIMiddleware):
    """Points by address. Health, documentation and the page's files are free."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, limits: RateLimits, counters: Counters) -> None:
        self._limits = limits
        self._counters = counters

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Charge the address one point, and tell what is left of the key's or the address's."""
        current.set(None)
        _check_text(scope["query_string"])
        _check_text(scope["raw_path"])
        if len(scope["query_string"]) > MAX_QUERY_BYTES:
            raise problem(
                414, "address_too_long", f"A query string has at most {MAX_QUERY_BYTES} bytes."
            )
        if scope["path"].startswith(_FREE) or scope["path"] == "/":
            await next_app(scope, receive, send)
            return
        window = Window(self._counters, f"a {address_of(scope)}", self._limits.of_address)
        current.set(window)
        window.charge(1)

        async def with_headers(message: Message) -> None:
            told = current.get()
            if message["type"] == "http.response.start" and told is not None:
                sent = message.get("headers", ())
                # a problem has them already
                if not any(name == b"ratelimit-limit" for name, _ in sent):
                    message["headers"] = [*sent, *told.encoded_headers]
            await send(message)

        await next_app(scope, receive, with_headers)


def _check_text(escaped: bytes) -> None:
    """Refuse an address that is no text once its escapes are resolved: no database holds it.

    Raises:
        ProblemDetailsException: 400.
    """
    if escaped.isascii() and b"%" not in escaped:
        return
    try:
        if "\0" not in unquote_to_bytes(escaped).decode():
            return
    except UnicodeDecodeError:
        pass
    raise problem(
        400, "invalid_address", "The address holds a NUL character or is not UTF-8: escape it anew."
    )


def charge_key(
    key: Key, scope: Any, limits: RateLimits, counters: Counters, points: int = 1
) -> None:
    """Charge a key that was found valid. From here on its window is the request's.

    Raises:
        ProblemDetailsException: 429, there are not so many points left.
    """
    if key.origins:
        whole = Window(counters, f"k {key.key_id}", limits.of_public_key)
        name = f"v {key.key_id} {address_of(scope)}"
        window = Window(counters, name, limits.of_public_visitor, whole)
    else:
        window = Window(counters, f"k {key.key_id}", limits.of_key)
    current.set(window)
    window.charge(points)


def charge_failure(scope: Any, limits: RateLimits, counters: Counters) -> None:
    """Charge an address for a key that is none, so that keys cannot be guessed in bulk."""
    window = Window(counters, f"a {address_of(scope)}", limits.of_address)
    counters.spend(window.name, min(FAILURE_POINTS, window.left))


def charge(points: int) -> None:
    """What a request costs more than the one point of every request.

    Raises:
        ProblemDetailsException: 429, there are not so many left.
    """
    window = current.get()
    if window is not None:
        window.charge(points)


def address_of(scope: Any) -> str:
    """Whom a request comes from: an IPv4 address, or the /64 network of an IPv6 one, which is what
    a provider gives a customer."""
    client = scope.get("client")
    return _network(str(client[0])[:64]) if client else ""


@lru_cache(4096)
def _network(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
