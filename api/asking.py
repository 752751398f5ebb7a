"""What all questions share: who asks, what it costs, and an answer kept while it is true."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
import msgspec
from litestar import Request
from litestar.response import Response

from api.access import merchant_of, require, the_key
from api.again import Meant, note
from api.limits import RAW_POINTS, charge
from api.problems import invalid, problem
from api.query.kept import Kept
from api.query.periods import Period, check_year
from api.query.place import MovedError, Place
from api.query.remember import name
from api.state import State
from db.catalogue import Merchant

TRIES: Final = 3  # a partition rarely moves, and never twice in a moment
T = TypeVar("T")
Compute = Callable[[Place], Awaitable[dict[str, Any]]]


async def who_asks(
    request: Request[Any, Any, Any], footfall: State, merchant_id: int | None
) -> Merchant:
    """The merchant that a question is about, once its key is found to allow it.

    Raises:
        ProblemDetailsException: 401, 403, or 404 for another merchant's.
    """
    key = await the_key(request, footfall)
    require(key, "stats:read")
    return await footfall.merchant(merchant_of(key, merchant_id))


async def respond(
    request: Request[Any, Any, Any],
    footfall: State,
    merchant: Merchant,
    question: object,
    compute: Compute,
    *,
    points: int = 1,
    period: Period | None = None,
) -> Response[Any]:
    """The answer, from memory or from the shard; 304 where the asker has it already.

    Args:
        question: all that the answer depends on but the rows.
        points: what it costs of the asker's minute.
        period: the range asked about; None where it moves with the clock.

    Raises:
        ProblemDetailsException: 422, it costs too much; 429, too much is asked at a time.
        asyncpg.PostgresError, OSError: the shard does not answer.
    """
    charge(points - 1)

    async def kept_or_made(place: Place) -> Kept:
        kept_as = name((question, place.shard))
        kept = await footfall.answers.get(
            kept_as,
            place.shard,
            merchant.merchant_id,
            stand=lambda: footfall.stand(place, merchant.merchant_id),
            compute=lambda: compute(place),
            period=period,
            scans=points >= RAW_POINTS,
        )
        meant = partial(
            Meant, merchant=merchant, place=place, question=kept_as, period=period, points=points
        )
        note(request.scope, footfall, meant)
        return kept

    try:
        kept = await where_it_lives(footfall, merchant.merchant_id, kept_or_made)
    except asyncpg.QueryCanceledError as error:
        raise too_slow() from error
    return _response(request, kept)


async def where_it_lives(
    footfall: State, merchant_id: int, ask: Callable[[Place], Awaitable[T]]
) -> T:
    """What the shard tells that holds a merchant, wherever it moves meanwhile.

    Raises:
        ProblemDetailsException: 503, it was somewhere else each time.
    """
    for _ in range(TRIES):
        try:
            return await ask(await footfall.place(merchant_id))
        except MovedError:
            continue
    raise problem(
        503,
        "moving",
        "The merchant's data is being moved: try again in a moment.",
        headers={"Retry-After": "1"},
    )


def too_slow() -> Exception:
    """The database gave the statement up after its time."""
    return problem(
        422,
        "too_expensive",
        "This question took too long: shorten its range, or drop a dimension or a filter.",
    )


def _response(request: Request[Any, Any, Any], kept: Kept) -> Response[Any]:
    known = request.headers.get("if-none-match", "")
    if request.method == "GET" and kept.is_known(known):
        return Response(b"", status_code=304, headers=kept.headers)
    return Response(kept.body, media_type="application/json", headers=kept.headers)


def names(text: str) -> list[str]:
    """A list of names parted by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def range_of(request: Request[Any, Any, Any]) -> str | list[str]:
    """`from` and `to`, or `date_range`, or the last 28 days."""
    start, end = request.query_params.get("from"), request.query_params.get("to")
    if start and end:
        return [start, end]
    if start or end:
        raise invalid("from", "Give both from and to, or date_range.")
    return str(request.query_params.get("date_range", "28d"))


def filters_of(text: str | None) -> list[Any]:
    """Filters as a query parameter: JSON."""
    if not text:
        return []
    try:
        return msgspec.json.decode(text, type=list[Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise invalid("filters", f"filters is a JSON list of filters: {error}") from error


def instant_of(text: str) -> datetime:
    """An RFC 3339 instant, or epoch milliseconds."""
    try:
        if text.isascii() and text.isdigit():
            moment = datetime.fromtimestamp(int(text[:18]) / 1000, tz=UTC)
        else:
            moment = datetime.fromisoformat(text)
        check_year(moment.year, "timestamp")
        if moment.tzinfo is None:
            raise invalid("timestamp", "Give an offset: end it with Z or +02:00.")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise invalid(
            "timestamp", "Give RFC 3339 with an offset, or epoch milliseconds."
        ) from error
