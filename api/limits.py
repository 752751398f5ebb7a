"""How often a key may ask: Litestar's rate limit, its headers on refusals as well as on answers."""

from contextvars import ContextVar
from typing import Any, Final

from litestar import Request
from litestar.middleware.rate_limit import CacheObject, RateLimitConfig, RateLimitMiddleware
from litestar.types import Send

# An exception leaves the middlewares behind: its answer is written outside of them.
current_headers: Final[ContextVar[dict[str, str]]] = ContextVar("rate_limit_headers")


class RateLimit(RateLimitMiddleware):
    """Keeps the headers of the request in hand where the exception handlers find them."""

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
