"""The API put together."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from litestar import Litestar, Request, Router
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.plugins.problem_details import ProblemDetailsException
from litestar.plugins.prometheus import PrometheusConfig
from litestar.response import Response

from api import admin, bodies, collect, describe, documentation, health, journeys, live, stats
from api.access import authenticated
from api.again import Again
from api.counters import Counters
from api.headers import harden
from api.limits import RateLimit, current
from api.page import page_router
from api.problems import problem
from api.request_bodies import RequestBodies
from api.settings import ApiSettings
from api.slow_readers import SlowReaders
from api.state import State
from db.errors import kind_of, of_this_machine

log = structlog.get_logger(__name__)

MAX_QUESTION_BYTES: Final = 65_536


def create_app(settings: ApiSettings) -> Litestar:
    """The application; its state opens with it and closes with it."""

    shared = settings.shared_dir
    if shared is not None:
        shared.mkdir(parents=True, exist_ok=True, mode=0o700)
    counters = Counters.open(shared / "counters" if shared else None)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.footfall = await State.open(settings, counters)
        try:
            yield
        finally:
            await app.state.footfall.close()

    telemetry = PrometheusConfig(app_name="footfall_api", prefix="footfall_api", group_path=True)
    app = Litestar(
        route_handlers=[
            collect.collect,
            Router(
                path="/",
                middleware=[Again()],
                guards=[authenticated],
                request_max_body_size=MAX_QUESTION_BYTES,
                route_handlers=[
                    stats.query,
                    stats.timeseries,
                    stats.breakdown,
                    stats.summary,
                    journeys.funnel,
                    journeys.retention,
                    live.realtime,
                    live.receipt,
                ],
            ),
            describe.schema,
            Router(
                path="/",
                guards=[authenticated],
                request_max_body_size=MAX_QUESTION_BYTES,
                route_handlers=[
                    admin.create_merchant,
                    admin.create_key,
                    admin.list_keys,
                    admin.rotate_key,
                    admin.revoke_key,
                ],
            ),
            health.live,
            health.ready,
            page_router(settings.page_folders),
            documentation.part,
        ],
        lifespan=[lifespan],
        before_send=[harden],
        middleware=[
            SlowReaders(),
            RateLimit(settings.rate_limits, counters),
            telemetry.middleware,
        ],
        exception_handlers={
            ProblemDetailsException: _problem,
            HTTPException: _refused,
            Exception: _unexpected,
        },
        openapi_config=OpenAPIConfig(
            title="Footfall",
            version="1",
            description="Shop analytics that merchants can trust.",
            render_plugins=[JsonRenderPlugin(), documentation.page()],
        ),
        request_max_body_size=bodies.SERVERS.size + 1,
    )
    app.asgi_handler = RequestBodies(app.asgi_handler)
    return app


def _problem(
    request: Request[Any, Any, Any], error: ProblemDetailsException
) -> Response[dict[str, Any]]:
    """A problem bears the request's id, by which its log lines are found."""
    response = error.to_response(request)
    given = request.headers.get("x-request-id", "")
    window = current.get()
    request_id = given if given.isalnum() and len(given) <= 64 else uuid.uuid4().hex
    response.content["request_id"] = request_id
    response.headers.update({"x-request-id": request_id, **(window.headers if window else {})})
    return response


def _refused(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Litestar's own refusals (routing, parsing, limits) in the shape of ours."""
    codes = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}
    codes |= {413: "body_too_large", 429: "too_many_requests"}
    extra = {"errors": error.extra} if error.extra else {}
    code = codes.get(error.status_code, "refused" if error.status_code < 500 else "internal")
    headers = dict(error.headers or {})
    if error.status_code == 429:
        headers.setdefault("Retry-After", headers.get("RateLimit-Reset", "60"))
    return _problem(
        request, problem(error.status_code, code, error.detail, headers=headers, **extra)
    )


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """A shard that is away is a 503 for its merchants; anything else is our fault."""
    if of_this_machine(error):
        log.error("disk", path=request.url.path, error=repr(error))
        full = "This server cannot write to its disk: try again in a moment."
        return _problem(request, problem(503, "server_disk", full, headers={"Retry-After": "10"}))
    if kind_of(error) == "transient":
        log.warning("shard_away", path=request.url.path, error=repr(error))
        away = "The database that holds this merchant does not answer: try again in a moment."
        return _problem(request, problem(503, "shard_away", away, headers={"Retry-After": "2"}))
    log.error("unexpected", path=request.url.path, exc_info=error)
    return _problem(request, problem(500, "internal", "Something went wrong on our side."))
