"""GET /v1/schema: what can be asked, what goes together, and what it means."""

from functools import cache
from typing import Any, Literal

import msgspec
from litestar import Request, get
from litestar.response import Response
from msgspec import Struct

from api.answers import problems
from api.query.answer import HLL_ERROR, OTHER
from api.query.catalogue import (
    DIMENSIONS,
    INTERVALS,
    METRICS,
    NONE,
    SESSION_DIMENSIONS,
    VALUES,
    Metric,
)
from api.query.language import MAX_FILTERS, MAX_ROWS, MAX_VALUES, OPERATORS
from api.query.periods import MAX_DAYS, MAX_POINTS, NAMES


class Estimate(Struct):
    """How an estimate is made, and its standard error."""

    method: str
    relative_error: float


class MetricSchema(Struct):
    """A metric, and the dimensions by which it can be broken down and filtered."""

    name: str
    unit: Literal["count", "ratio", "seconds", "money"]
    definition: str
    adds_up: bool
    approximate: Estimate | None
    intervals: list[str]
    dimensions: list[str]
    filters: list[str]


class DimensionSchema(Struct):
    """A dimension; `values` where they are a closed set."""

    name: str
    operators: list[str]
    values: list[str] | None


class Limits(Struct):
    """What a question may hold."""

    days: int
    rows: int
    points: int
    conditions: int
    values: int


class Schema(Struct):
    """What can be asked."""

    metrics: list[MetricSchema]
    dimensions: list[DimensionSchema]
    intervals: list[str]
    date_ranges: list[str]
    comparisons: list[str]
    rules: dict[str, str]
    limits: Limits


def _goes_with(metric: Metric) -> list[str]:
    if metric.group == "session":
        return sorted(SESSION_DIMENSIONS)
    if metric.group == "visitors":
        return sorted(set(DIMENSIONS) - {"product"})
    return sorted(DIMENSIONS)


RULES = {
    "sessions": "A session without events for 30 minutes has ended: the client makes its id anew. "
    "One that crosses midnight UTC is counted on both days, each time at its first event of that "
    "day.",
    "adds_up": "Where adds_up is false the total is not the sum of the rows: visitors of a day and "
    "of a week, or of two pages, may be the same ones, and a ratio has no sum.",
    "together": "Metrics asked for together share dimensions and filters, so that these must go "
    "with each of them.",
    "product": "product goes with event metrics, and with the dimensions time and event alone; "
    "counts are then of items.",
    "time": "One time dimension at a time. Days, weeks (from Monday, ISO 8601) and months are "
    "local to the time zone, any of IANA's; every bucket of a series is shown, empty ones too.",
    "bots": "Bots are stored and left out, unless a filter asks for device bot.",
    "money": "Money is in one currency, the shop's unless the question names another, and never "
    "converted; a warning names the others. Revenue is before refunds.",
    "ratios": "A ratio over nothing is null.",
    "absent": f"A dimension that an event does not have is shown as {NONE!r}, and so filtered.",
    "other": f"include.other adds a row {OTHER!r} of all that the limit left out, so that counts "
    "add up to the totals.",
    "comparison": "previous_period is of the same local length and ends where the range starts; "
    "series are compared bucket by bucket, other rows by their dimensions.",
    "filters": 'A filter is ["is", "country", ["DE", "FR"]], ["and" or "or", [filters]] or ["not", '
    "filter]; those of a list must all hold. contains does not mind case.",
}


@cache
def _written() -> bytes:
    metrics = [
        MetricSchema(
            metric.name,
            metric.unit,
            metric.definition,
            metric.adds_up,
            Estimate("hll", HLL_ERROR) if metric.group == "visitors" else None,
            list(INTERVALS),
            _goes_with(metric),
            _goes_with(metric),
        )
        for metric in METRICS.values()
    ]
    dimensions = [
        DimensionSchema(name, list(OPERATORS), list(VALUES[name]) if name in VALUES else None)
        for name in DIMENSIONS
    ]
    limits = Limits(MAX_DAYS, MAX_ROWS, MAX_POINTS, MAX_FILTERS, MAX_VALUES)
    return msgspec.json.encode(
        Schema(
            metrics,
            dimensions,
            list(INTERVALS),
            list(NAMES),
            ["previous_period"],
            RULES,
            limits,
        )
    )


@get("/v1/schema", tags=["stats"], summary="What can be asked", responses=problems(429))
async def schema(request: Request[Any, Any, Any]) -> Response[Schema]:
    """Metrics, dimensions, which go together, definitions, and whether a metric adds up. Needs no
    key."""
    return Response[Any](
        _written(), media_type="application/json", headers={"Cache-Control": "public, max-age=300"}
    )
