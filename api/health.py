"""Whether the API lives, and whether it can do its work."""

import asyncio
from typing import Any

from litestar import get
from litestar.datastructures import State as LitestarState
from litestar.response import Response

from api.state import State


@get("/health/live", tags=["health"], summary="Is the process alive?")
async def live() -> dict[str, str]:
    """It is, if it answers."""
    return {"status": "ok"}


@get("/health/ready", tags=["health"], summary="Can it do its work?")
async def ready(state: LitestarState) -> Response[dict[str, Any]]:
    """Every shard answers. Without the log the spool still accepts events."""
    footfall: State = state.footfall
    answers = await asyncio.gather(
        *(asyncio.wait_for(pool.fetchval("SELECT 1"), 3) for pool in footfall.readers),
        return_exceptions=True,
    )
    shards = {str(n): "ok" if got == 1 else "away" for n, got in enumerate(answers)}
    well = all(word == "ok" for word in shards.values())
    body = {
        "status": "ok" if well else "degraded",
        "shards": shards,
        "spool": "draining" if footfall.publisher.spool.pending else "empty",
    }
    return Response(body, status_code=200 if well else 503)
