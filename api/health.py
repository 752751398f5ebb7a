"""Whether the API lives, and whether it can do its work."""

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
    must not take the others' merchants along, nor must the log: the spool accepts events. The
    shards are checked in the background, every second: asking costs nothing."""
    footfall: State = state.footfall
    going = footfall.settings.draining_file
    shards = footfall.readiness.shards
    tasks = {name: each.state for name, each in footfall.supervisor.health.items()}
    draining = going is not None and going.exists()
    good = all(each == "ok" for each in (*shards.values(), *tasks.values()))
    spool = footfall.publisher.spool
    body = {
        "status": "draining" if draining else "ok" if good else "degraded",
        "shards": shards,
        "spool": "draining" if spool.pending or footfall.publisher.left_bytes else "empty",
        "dead_letters": spool.dead_letter_bytes > 0,
        "tasks": tasks,
    }
    can = not draining and "ok" in shards.values()
    return Response(body, status_code=200 if can else 503)
