"""Who is there now, and what became of an event."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from litestar import Request, get
from litestar.datastructures import State as LitestarState
from litestar.params import Parameter
from litestar.response import Response

from api.answers import ASKING, RealtimeAnswer, ReceiptAnswer
from api.asking import instant_of, range_of, respond, who_asks
from api.limits import RAW_POINTS
from api.problems import invalid
from api.query import realtime as now_there
from api.query import receipt as receipts
from api.query.periods import Period, resolve, zone
from api.state import State
from api.stats import DateRange, From, To


@get(
    "/v1/merchants/{merchant_id:int}/realtime",
    tags=["stats"],
    summary="Who is there now",
    responses=ASKING,
)
async def realtime(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int
) -> Response[RealtimeAnswer]:
    """Visitors of the last five minutes, and the last thirty minute by minute."""
    footfall: State = state.footfall
    merchant = await who_asks(request, footfall, merchant_id)
    asked = now_there.Realtime(merchant.merchant_id, datetime.now(UTC))
    kept_as = ("realtime", merchant.merchant_id)
    return await respond(request, footfall, merchant, kept_as, partial(now_there.answer, asked))


@get(
    "/v1/merchants/{merchant_id:int}/events/{event_id:str}",
    tags=["events"],
    summary="What became of an event",
    responses=ASKING,
)
async def receipt(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    event_id: str,
    timestamp: Annotated[
        str | None, Parameter(description="The event's own: finds it at once, however old.")
    ] = None,
    start: From = None,
    end: To = None,
    date_range: DateRange = None,
) -> Response[ReceiptAnswer]:
    """Stored, a duplicate, or rejected and why; and its place in the log. Without the event's
    timestamp it is looked for in the range, which is 28 days unless you say otherwise; duplicates
    and rejects are found whenever they came."""
    footfall: State = state.footfall
    merchant = await who_asks(request, footfall, merchant_id)
    if not 1 <= len(event_id) <= 64 or "\0" in event_id:
        raise invalid("event_id", "An event id has 1 to 64 characters.")
    place = zone(merchant.timezone)
    if timestamp is not None:
        period = receipts.at_instant(instant_of(timestamp), place)
    else:
        period = resolve(range_of(request), place, datetime.now(UTC))
        # an event may lie up to an hour ahead of the log's clock
        period = Period(period.start, period.end + timedelta(hours=1), place)
    asked = receipts.Receipt(merchant.merchant_id, event_id, period, footfall.settings.raw_rows)
    points = 1 if timestamp is not None else RAW_POINTS
    return await respond(
        request, footfall, merchant, asked, partial(receipts.answer, asked), points=points
    )
