"""The questions: POST /v1/query and its shorthands, all of one engine."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from litestar import Request, get, post
from litestar.datastructures import State as LitestarState
from litestar.params import Parameter
from litestar.response import Response

from api.answers import ASKING, FRESH_HEADERS, QueryAnswer
from api.asking import filters_of, names, range_of, respond, where_it_lives, who_asks
from api.export import export, wanted_format
from api.limits import RAW_POINTS, charge
from api.problems import invalid
from api.query.answer import answer
from api.query.language import MAX_ROWS, Include, QueryBody, understand
from api.query.plan import plan
from api.state import State

From = Annotated[
    str | None,
    Parameter(query="from", description="A date or an RFC 3339 instant; with `to`, exclusive."),
]
To = Annotated[str | None, Parameter(query="to", description="The end, exclusive.")]
DateRange = Annotated[
    str | None,
    Parameter(description="today, yesterday, 7d, 28d, 30d, 90d, month or year; 28d without it."),
]
Filters = Annotated[str | None, Parameter(description='JSON: `[["is", "country", ["DE", "FR"]]]`.')]
Bom = Annotated[
    bool,
    Parameter(description="Begin a CSV file with the mark by which Excel knows UTF-8."),
]
Compare = Annotated[str | None, Parameter(description="`previous_period`, or nothing.")]


@post(
    "/v1/query",
    status_code=200,
    tags=["stats"],
    summary="Ask anything",
    responses=ASKING,
    response_headers=FRESH_HEADERS,
)
async def query(
    request: Request[Any, Any, Any], state: LitestarState, data: QueryBody, bom: Bom = False
) -> Response[QueryAnswer]:
    """The whole query language. With `Accept: text/csv`, `application/x-ndjson` or
    `application/vnd.apache.arrow.stream` the rows are streamed, all of them unless `limit` is
    given. `?bom=1` begins a CSV file with the mark by which Excel knows UTF-8."""
    return await ask(request, state.footfall, data, data.merchant_id, bom=bom)


@get(
    "/v1/merchants/{merchant_id:int}/timeseries",
    tags=["stats"],
    summary="A series over time",
    responses=ASKING,
    response_headers=FRESH_HEADERS,
)
async def timeseries(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    metrics: str = "visitors,page_views,orders,revenue",
    interval: str = "day",
    timezone: str | None = None,
    filters: Filters = None,
    compare: Compare = None,
    start: From = None,
    end: To = None,
    date_range: DateRange = None,
    bom: Bom = False,
) -> Response[QueryAnswer]:
    """Metrics by minute, hour, day, week or month; `from` and `to` bound the range."""
    body = QueryBody(
        metrics=names(metrics),
        dimensions=[f"time:{interval}"],
        date_range=range_of(request),
        filters=filters_of(filters),
        timezone=timezone,
        include=_include(compare, totals=True),
        limit=MAX_ROWS,
    )
    return await ask(request, state.footfall, body, merchant_id, bom=bom)


@get(
    "/v1/merchants/{merchant_id:int}/breakdown",
    tags=["stats"],
    summary="By a dimension",
    responses=ASKING,
    response_headers=FRESH_HEADERS,
)
async def breakdown(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    dimension: str,
    metrics: str = "events",
    timezone: str | None = None,
    filters: Filters = None,
    compare: Compare = None,
    order_by: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    other: bool = False,
    start: From = None,
    end: To = None,
    date_range: DateRange = None,
    bom: Bom = False,
) -> Response[QueryAnswer]:
    """Metrics by page, product, source and so on. `order_by` is a column, with - before it for
    the largest first; `other=true` adds a row of all that the limit left out."""
    order: list[Any] = []
    if order_by:
        order = [(order_by.lstrip("-"), "desc" if order_by.startswith("-") else "asc")]
    body = QueryBody(
        metrics=names(metrics),
        dimensions=names(dimension),
        date_range=range_of(request),
        filters=filters_of(filters),
        timezone=timezone,
        order_by=order,
        limit=limit,
        cursor=cursor,
        include=_include(compare, other=other),
    )
    return await ask(request, state.footfall, body, merchant_id, bom=bom)


@get(
    "/v1/merchants/{merchant_id:int}/summary",
    tags=["stats"],
    summary="Totals of a range",
    responses=ASKING,
    response_headers=FRESH_HEADERS,
)
async def summary(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    metrics: str = "visitors,sessions,page_views,orders,revenue,conversion_rate",
    timezone: str | None = None,
    filters: Filters = None,
    compare: Compare = None,
    start: From = None,
    end: To = None,
    date_range: DateRange = None,
    bom: Bom = False,
) -> Response[QueryAnswer]:
    """Totals, with `compare=previous_period` beside those of the period before."""
    body = QueryBody(
        metrics=names(metrics),
        date_range=range_of(request),
        filters=filters_of(filters),
        timezone=timezone,
        include=_include(compare, totals=True),
    )
    return await ask(request, state.footfall, body, merchant_id, bom=bom)


async def ask(
    request: Request[Any, Any, Any],
    footfall: State,
    body: QueryBody,
    asked: int | None,
    *,
    bom: bool,
) -> Response[Any]:
    """Check who asks, understand the question, and have its shard answer it."""
    merchant = await who_asks(request, footfall, asked)
    question = understand(
        body, merchant.merchant_id, merchant.timezone, merchant.currency, datetime.now(UTC)
    )
    settings = footfall.settings
    question = replace(question, raw_rows=settings.raw_rows, raw_days=settings.limits.max_age_days)
    points = RAW_POINTS if plan(question).source == "raw" else 1
    kind = wanted_format(request)
    if kind is not None:
        charge(points - 1)
        return await where_it_lives(
            footfall,
            merchant.merchant_id,
            lambda place: export(
                question,
                place,
                kind,
                footfall.downloads,
                everything=body.limit is None,
                bom=bom and kind.suffix == "csv",
            ),
        )
    return await respond(
        request,
        footfall,
        merchant,
        question,
        partial(answer, question),
        points=points,
        period=question.period,
    )


def _include(compare: str | None, *, totals: bool = False, other: bool = False) -> Include:
    if compare not in (None, "previous_period"):
        raise invalid("compare", "compare is previous_period.")
    return Include("previous_period" if compare else None, totals=totals, other=other)
