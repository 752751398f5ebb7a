"""The shapes of answers, as the OpenAPI document shows them.

The bodies are written as ready bytes; the tests hold them against these shapes.
"""

from typing import Annotated, Any, Literal

from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Meta as Note
from msgspec import Struct

Row = dict[str, Any]


class About(Struct):
    """What an answer says about itself."""

    fresh_as_of: Annotated[
        str | None,
        Note(description="Every event that the log held up to this instant is in the numbers."),
    ]
    complete: Annotated[bool, Note(description="Whether the whole range lies before fresh_as_of.")]
    source: Annotated[
        Literal["daily", "hourly", "raw"], Note(description="The finest of what was read.")
    ]
    approximate: Annotated[
        dict[str, dict[str, Any]],
        Note(description="The metrics that are estimates, the method and its standard error."),
    ]
    logic_version: Annotated[
        int | None, Note(description="The oldest logic by which any day of the range was made.")
    ]
    last_reprocessed_at: Annotated[
        str | None, Note(description="When rows of the range were last made again from the log.")
    ]
    warnings: list[str]
    truncated: Annotated[bool, Note(description="Whether there are rows beyond these.")]


class Understood(Struct):
    """A question as it was understood, its range resolved."""

    merchant_id: int
    metrics: list[str]
    date_range: list[str]
    dimensions: list[str]
    timezone: str
    currency: str
    order_by: list[list[str]]
    limit: int


class Comparison(Struct, omit_defaults=True):
    """The period before."""

    date_range: list[str]
    totals: Row
    change_percent: dict[str, float | None] | None = None


class QueryAnswer(Struct, omit_defaults=True):
    """Rows, and what was asked for beside them."""

    rows: Annotated[
        list[Row],
        Note(
            description="A row holds the dimensions and metrics asked for; money is "
            '{"amount": "19.99", "currency": "EUR"}. With a comparison each bears `comparison`, '
            "the same metrics of the period before, and `change_percent`."
        ),
    ]
    query: Understood
    next_cursor: str | None
    meta: About
    totals: Row | None = None
    comparison: Comparison | None = None


class FunnelStep(Struct):
    """How many visitors came to a step."""

    name: str
    event: str
    visitors: int
    from_previous: int | None
    dropped: int | None
    conversion_rate: Annotated[
        float | None, Note(description="Of the first step's visitors; null in an open funnel.")
    ]
    step_conversion_rate: Annotated[
        float | None, Note(description="Of the visitors of the step before.")
    ]


class FunnelUnderstood(Struct):
    """A funnel as it was understood."""

    merchant_id: int
    date_range: list[str]
    timezone: str
    window_seconds: int
    kind: Literal["closed", "open"]


class FunnelAnswer(Struct):
    """Visitors by step."""

    steps: list[FunnelStep]
    query: FunnelUnderstood
    meta: About


class Cohort(Struct):
    """The visitors first seen in one period: how many came back in it and in those after it."""

    cohort: str
    size: int
    visitors: list[int]
    rates: list[float | None]


class RetentionUnderstood(Struct):
    """A question of retention as it was understood."""

    merchant_id: int
    interval: Literal["day", "week", "month"]
    date_range: list[str]
    timezone: str


class RetentionAnswer(Struct):
    """Cohorts, the oldest first."""

    cohorts: list[Cohort]
    query: RetentionUnderstood
    meta: About


class Minute(Struct):
    """One minute of now."""

    time: str
    visitors: int
    events: int
    page_views: int
    orders: int


class RealtimeAnswer(Struct):
    """Who is there now."""

    visitors: Annotated[int, Note(description="With an event in the last five minutes.")]
    minutes: Annotated[list[Minute], Note(description="The last thirty; the last still goes on.")]
    meta: About


class Outcome(Struct):
    """What became of one message that bore the event's id."""

    status: Literal["stored", "duplicate", "rejected"]
    timestamp: str | None
    event: str | None
    counted: Annotated[
        bool, Note(description="False too for a purchase whose order had been counted before.")
    ]
    reason: str | None
    field: str | None
    detail: str | None
    partition: int
    offset: int
    logged_at: str


class ReceiptAnswer(Struct):
    """What became of an event."""

    event_id: str
    status: Literal["stored", "duplicate", "rejected"]
    outcomes: list[Outcome]
    meta: About


class Problem(Struct, omit_defaults=True):
    """RFC 9457, with a stable code and a sentence that says how to mend the request."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Refusals of a route, for its documentation."""
    return {
        status: ResponseSpec(
            Problem,
            description=_REFUSALS[status],
            media_type="application/problem+json",
            generate_examples=False,
        )
        for status in statuses
    }


_REFUSALS = {
    400: "The request cannot be understood; the sentence says why.",
    401: "No key, or none that is valid.",
    403: "The key lacks the scope.",
    404: "There is none, or it is not the asker's.",
    405: "No such method here.",
    413: "The body is too large.",
    415: "The body is of another kind than this takes.",
    422: "The question would cost too much.",
    429: "Too many requests; Retry-After says when.",
    503: "The database of this merchant does not answer; Retry-After says when to try again.",
}
ASKING = problems(400, 401, 403, 404, 413, 415, 422, 429, 503)
COLLECTING = problems(400, 401, 403, 404, 413, 415, 429, 503)
OPERATING = problems(400, 401, 403, 404, 413, 415, 429, 503)
FRESH_HEADERS = [
    ResponseHeader(name="ETag", documentation_only=True, description="Of the numbers."),
    ResponseHeader(
        name="Footfall-Fresh-As-Of", documentation_only=True, description="As in the meta."
    ),
]
