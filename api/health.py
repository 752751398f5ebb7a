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
    """It can for the merchants whose shards answer, until it is told to go. A shard that is away
    must not take the others' merchants along, nor must the log: the spool accepts events."""
    footfall: State = state.footfall
    going = footfall.settings.draining_file
    answers = await asyncio.gather(
        *(asyncio.wait_for(pool.fetchval("SELECT 1"), 3) for pool in footfall.readers),
        return_exceptions=True,
    )
    shards = {str(n): "ok" if got == 1 else "away" for n, got in enumerate(answers)}
    draining = going is not None and going.exists()
    well = "degraded" if "away" in shards.values() else "ok"
    body = {
        "status": "draining" if draining else well,
        "shards": shards,
        "spool": "draining" if footfall.publisher.spool.pending else "empty",
    }
    can = not draining and "ok" in shards.values()
    return Response(body, status_code=200 if can else 503)
