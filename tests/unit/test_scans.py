"""What reads raw rows waits for other connections than what rollups answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from api.query.language import QueryBody, understand
from api.query.place import Place, fetch
from api.query.plan import plan
from api.query.trip import in_one_trip

NOON = datetime(2026, 9, 21, 12, tzinfo=UTC)
TOLD = {"moved_to": None, "unread": False}


class Pool:
    """A pool that counts the statements that came to it; its connection is itself."""

    def __init__(self) -> None:
        self.asked = 0

    @asynccontextmanager
    async def acquire(self, timeout: float) -> AsyncIterator["Pool"]:  # noqa: ASYNC109 - as asyncpg's
        assert timeout > 0
        yield self

    async def fetchrow(self, text: str, *_: Any) -> dict[str, Any]:
        assert text
        self.asked += 1
        return TOLD


@pytest.mark.parametrize(
    ("asked", "scans"),
    [
        ({"dimensions": ["time:day"]}, 0),
        ({"dimensions": ["page"]}, 0),
        # no rollup knows pages by country
        ({"dimensions": ["page"], "filters": [["is", "country", ["DE"]]]}, 1),
    ],
)
async def test_each_goes_to_its_own(asked: dict[str, Any], scans: int) -> None:
    body = QueryBody(metrics=["page_views"], date_range="7d", timezone="UTC", **asked)
    question = understand(body, 1, "UTC", "EUR", NOON)
    rollups, raw = Pool(), Pool()
    pools = (cast("asyncpg.Pool", rollups), cast("asyncpg.Pool", raw))
    place = Place(*pools, 0, "events")
    assert await fetch(place, in_one_trip(question, plan(question), 0, "events")) == TOLD
    assert (rollups.asked, raw.asked) == (1 - scans, scans)
