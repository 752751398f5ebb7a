"""How much a key may ask: points a minute. Most requests cost one, raw rows cost more.

Counted in each worker's memory. The headers stand on refusals as well as on answers.
"""

import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

WINDOW_S: Final = 60
RAW_POINTS: Final = 10  # of a question that reads raw rows
JOURNEY_POINTS: Final = 20  # of a funnel or a retention: they sort or group all of them
_MOST: Final = 100_000
_FREE: Final = ("/health", "/metrics", "/schema", "/page/", "/footfall.js")


@dataclass(slots=True)
class Window:
    """The points that an asker has spent in the current minute."""

    limit: int
    ends_at: float
    spent: int = 0

    def charge(self, points: int) -> None:
        """Spend points.

        Raises:
            ProblemDetailsException: 429, there are not so many left.
        """
        if self.spent + points > self.limit:
            wait = str(max(1, math.ceil(self.ends_at - time.time())))
            raise problem(
                429,
                "too_many_requests",
                f"This costs {points} of {self.limit} points a minute, and "
                f"{self.limit - self.spent} are left: try again in {wait} seconds.",
                headers={"Retry-After": wait},
            )
        self.spent += points

    @property
    def headers(self) -> dict[str, str]:
        """As the IETF's draft of rate-limit headers names them."""
        return {
            "RateLimit-Policy": f"{self.limit}; w={WINDOW_S}",
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(max(0, self.limit - self.spent)),
            "RateLimit-Reset": str(max(0, math.ceil(self.ends_at - time.time()))),
        }

    @property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as they are sent."""
        return [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]


# An exception leaves the middlewares behind: its answer is written outside of them.
current: Final[ContextVar[Window | None]] = ContextVar("rate_limit", default=None)


class RateLimit(ASGIMiddleware):
    """Points by key, by address without one; health, telemetry, documentation and
    the page's files are free."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, points_per_minute: int) -> None:
        self._limit = points_per_minute
        self._windows: dict[str, Window] = {}

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Charge one point, and tell what is left."""
        if scope["path"].startswith(_FREE) or scope["path"] == "/":
            await next_app(scope, receive, send)
            return
        window = self._window(_who(scope))
        current.set(window)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = message.get("headers", ())
                # a problem has them already
                if not any(name == b"ratelimit-limit" for name, _ in sent):
                    message["headers"] = [*sent, *window.encoded_headers]
            await send(message)

        window.charge(1)
        await next_app(scope, receive, told)

    def _window(self, who: str) -> Window:
        now = time.time()
        window = self._windows.get(who)
        if window is None or window.ends_at <= now:
            if len(self._windows) >= _MOST:
                self._windows = {k: w for k, w in self._windows.items() if w.ends_at > now}
            window = self._windows[who] = Window(self._limit, now + WINDOW_S)
        return window


def charge(points: int) -> None:
    """What a request costs more than the one point of every request.

    Raises:
        ProblemDetailsException: 429, there are not so many left.
    """
    window = current.get()
    if window is not None:
        window.charge(points)


def _who(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            return str(value.decode("latin-1"))
    client = scope.get("client")
    return client[0] if client else "unknown"
