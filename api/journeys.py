"""Funnels and retention: what visitors do one after the other, from raw rows."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from litestar import Request, post
from litestar.datastructures import State as LitestarState
from litestar.response import Response

from api.answers import ASKING, FunnelAnswer, RetentionAnswer
from api.asking import respond, who_asks
from api.limits import JOURNEY_POINTS
from api.query import funnel as funnels
from api.query import retention as retentions
from api.query.funnel import FunnelBody
from api.query.retention import RetentionBody
from api.state import State


@post(
    "/v1/merchants/{merchant_id:int}/funnel",
    status_code=200,
    tags=["stats"],
    summary="Steps in order",
    responses=ASKING,
)
async def funnel(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int, data: FunnelBody
) -> Response[FunnelAnswer]:
    """How many visitors went through 2 to 8 steps in order, each at most `window_seconds` after the
    first. `closed`: only who did all steps before; `open`: whoever did the step, and how many of
    them came from the step before within the window."""
    footfall: State = state.footfall
    merchant = await who_asks(request, footfall, merchant_id)
    asked = funnels.understand(data, merchant.merchant_id, merchant.timezone, datetime.now(UTC))
    asked = replace(asked, raw_rows=footfall.settings.raw_rows)
    return await respond(
        request,
        footfall,
        merchant,
        asked,
        partial(funnels.answer, asked),
        points=JOURNEY_POINTS,
        period=asked.period,
    )


@post(
    "/v1/merchants/{merchant_id:int}/retention",
    status_code=200,
    tags=["stats"],
    summary="Who comes back",
    responses=ASKING,
)
async def retention(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int, data: RetentionBody
) -> Response[RetentionAnswer]:
    """Visitors by the day, week or month in which they were first seen, and how many of them had an
    event in each period after it. Period 0 is the cohort's own."""
    footfall: State = state.footfall
    merchant = await who_asks(request, footfall, merchant_id)
    settings = footfall.settings
    asked = retentions.understand(
        data,
        merchant.merchant_id,
        merchant.timezone,
        datetime.now(UTC),
        settings.limits.max_age_days,
    )
    asked = replace(asked, raw_rows=settings.raw_rows)
    return await respond(
        request,
        footfall,
        merchant,
        asked,
        partial(retentions.answer, asked),
        points=JOURNEY_POINTS,
        period=asked.period,
    )
