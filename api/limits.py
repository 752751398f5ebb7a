"""How often a key may ask: Litestar's rate limit, its headers on refusals as well as on answers."""

import time
from contextvars import ContextVar
from typing import Any, Final

from litestar import Request
from litestar.middleware.rate_limit import CacheObject, RateLimitConfig, RateLimitMiddleware
from litestar.stores.base import Store
from litestar.types import ASGIApp, Send

WINDOW_S: Final = 60
_MOST: Final = 100_000

# An exception leaves the middlewares behind: its answer is written outside of them.
current_headers: Final[ContextVar[dict[str, str]]] = ContextVar("rate_limit_headers")


class RateLimit(RateLimitMiddleware):
    """Counts in this worker's memory, and keeps the headers where exception handlers find them.

    Litestar's own way through a store writes every request of the window anew as JSON, a cost that
    grows with the rate that it is to limit.
    """

    def __init__(self, app: ASGIApp, config: RateLimitConfig) -> None:
        super().__init__(app, config)
        self._windows: dict[str, CacheObject] = {}

    async def retrieve_cached_history(self, key: str, store: Store) -> CacheObject:
        """The asker's requests of the current minute."""
        now = int(time.time())
        window = self._windows.get(key)
        if window is None or window.reset <= now:
            if len(self._windows) >= _MOST:
                self._windows = {k: w for k, w in self._windows.items() if w.reset > now}
            window = self._windows[key] = CacheObject(history=[], reset=now + WINDOW_S)
        return window

    async def set_cached_history(self, key: str, cache_object: CacheObject, store: Store) -> None:
        """One more."""
        cache_object.history.append(int(time.time()))

    def create_send_wrapper(self, send: Send, cache_object: CacheObject) -> Send:
        """Called once a request, before it is handled."""
        current_headers.set(self.create_response_headers(cache_object))
        return super().create_send_wrapper(send, cache_object)


def rate_limit(requests_per_minute: int) -> RateLimitConfig:
    """So many requests a minute and key; health, telemetry and documentation are free."""
    return RateLimitConfig(
        rate_limit=("minute", requests_per_minute),
        identifier_for_request=_who,
        exclude=["/health", "/metrics", "/schema"],
        middleware_class=RateLimit,
    )


def _who(request: Request[Any, Any, Any]) -> str:
    """Requests are limited by key; without one, by address."""
    given = request.headers.get("authorization")
    return given or (request.client.host if request.client else "unknown")
