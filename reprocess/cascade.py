"""Rollups follow the rows: hourly, then daily, only where rows changed."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from db.refresh import coordinating, held_windows, refresh, take_in, windows
from db.retry import patiently
from db.rollups import ROLLUPS
from db.windows import Window, merged

# Ten minutes in all: a policy that catches up on months is at it for minutes.
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, *[30.0] * 19)
_MOMENT: Final = timedelta(microseconds=1)


async def cascade(
    pool: asyncpg.Pool, hours: Sequence[Window], reach: Callable[[str], None] = lambda _: None
) -> int:
    """Make every rollup again over these ranges of hours; how many refreshes that took.

    It is forced: a refresh that crossed the rows' commit may have passed over them without a
    trace. Buckets that are still open are left to real-time aggregation.

    Args:
        hours: whole ones, UTC, in order.
    """
    if not hours:
        return 0
    async with coordinating(pool) as connection:
        await _patiently(lambda: take_in(connection))
        held = await held_windows(connection, hours[0][0], hours[-1][1])
        now = datetime.now(UTC)
        count = 0
        for rollup in ROLLUPS:
            found: list[Window] = []
            for start, end in hours:
                found += windows(rollup.bucket, (start, end - _MOMENT), held, now)
            for start, end in merged(found):
                await _patiently(
                    lambda s=start, e=end, r=rollup: refresh(  # type: ignore[misc]
                        connection, r, s, e, force=True
                    )
                )
                count += 1
            reach(f"after_{rollup.name}")
    return count


async def _patiently(call: Callable[[], Awaitable[object]]) -> None:
    """A policy may be refreshing the same buckets: that is refused at once, so try again."""
    await patiently(call, RETRY_S, (asyncpg.PostgresError,))
