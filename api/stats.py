"""The questions: POST /v1/query and its shorthands, all of one engine."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
from litestar import Request, get, post
from litestar.datastructures import State as LitestarState

from api.access import merchant_of, require, the_key
from api.problems import invalid, problem
from api.query.answer import answer
from api.query.language import Include, QueryBody, understand
from api.state import State


@post("/v1/query", status_code=200, tags=["stats"], summary="Ask anything")
async def query(
    request: Request[Any, Any, Any], state: LitestarState, data: QueryBody
) -> dict[str, Any]:
    """The whole query language."""
    return await ask(request, state.footfall, data, data.merchant_id)


@get("/v1/merchants/{merchant_id:int}/timeseries", tags=["stats"], summary="A series over time")
async def timeseries(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    metrics: str = "visitors,page_views,orders,revenue",
    interval: str = "day",
    timezone: str | None = None,
    filters: str | None = None,
    compare: str | None = None,
) -> dict[str, Any]:
    """Metrics by minute, hour, day, week or month; `from` and `to` bound the range."""
    body = QueryBody(
        metrics=_names(metrics),
        dimensions=[f"time:{interval}"],
        date_range=_range(request),
        filters=_filters(filters),
        timezone=timezone,
        include=_include(compare, totals=True),
        limit=10_000,
    )
    return await ask(request, state.footfall, body, merchant_id)


@get("/v1/merchants/{merchant_id:int}/breakdown", tags=["stats"], summary="By a dimension")
async def breakdown(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    dimension: str,
    metrics: str = "events",
    timezone: str | None = None,
    filters: str | None = None,
    order_by: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Metrics by page, product, source and so on. `order_by` is a column, with - before it for
    the largest first."""
    order: list[Any] = []
    if order_by:
        order = [(order_by.lstrip("-"), "desc" if order_by.startswith("-") else "asc")]
    body = QueryBody(
        metrics=_names(metrics),
        dimensions=_names(dimension),
        date_range=_range(request),
        filters=_filters(filters),
        timezone=timezone,
        order_by=order,
        limit=limit,
        cursor=cursor,
    )
    return await ask(request, state.footfall, body, merchant_id)


@get("/v1/merchants/{merchant_id:int}/summary", tags=["stats"], summary="Totals of a range")
async def summary(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    metrics: str = "visitors,sessions,page_views,orders,revenue,conversion_rate",
    timezone: str | None = None,
    filters: str | None = None,
    compare: str | None = None,
) -> dict[str, Any]:
    """Totals, with `compare=previous_period` beside those of the period before."""
    body = QueryBody(
        metrics=_names(metrics),
        date_range=_range(request),
        filters=_filters(filters),
        timezone=timezone,
        include=_include(compare, totals=True),
    )
    return await ask(request, state.footfall, body, merchant_id)


async def ask(
    request: Request[Any, Any, Any], footfall: State, body: QueryBody, asked: int | None
) -> dict[str, Any]:
    """Check who asks, understand the question, and have its shard answer it."""
    key = await the_key(request, footfall)
    require(key, "stats:read")
    merchant = await footfall.merchant(merchant_of(key, asked))
    question = understand(
        body, merchant.merchant_id, merchant.timezone, merchant.currency, datetime.now(UTC)
    )
    place = await footfall.place(merchant.merchant_id)
    try:
        return await answer(question, place)
    except asyncpg.QueryCanceledError as error:
        raise problem(
            422,
            "too_expensive",
            "This question took too long: shorten its range, or drop a dimension or a filter.",
        ) from error


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _range(request: Request[Any, Any, Any]) -> str | list[str]:
    """`from` and `to`, or `date_range`, or the last 28 days."""
    start, end = request.query_params.get("from"), request.query_params.get("to")
    if start and end:
        return [start, end]
    if start or end:
        raise invalid("from", "Give both from and to, or date_range.")
    return str(request.query_params.get("date_range", "28d"))


def _filters(text: str | None) -> list[Any]:
    if not text:
        return []
    try:
        return msgspec.json.decode(text, type=list[Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise invalid("filters", f"filters is a JSON list of filters: {error}") from error


def _include(compare: str | None, *, totals: bool) -> Include:
    if compare not in (None, "previous_period"):
        raise invalid("compare", "compare is previous_period.")
    return Include(comparison="previous_period" if compare else None, totals=totals)
