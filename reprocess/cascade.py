"""Rollups follow the rows: hourly, then daily, only where rows changed."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import asyncpg

from db import refresh_queue
from db.errors import kind_of
from db.pools import Connection
from db.refresh import TIMED_OUT, coordinating, refresh, take_in
from db.refresh_queue import closed_within, held_windows
from db.retry import patiently
from db.rollups import ROLLUPS, Rollup
from db.windows import Window, by_day, merged

# Ten minutes in all: a policy that catches up on months is at it for minutes.
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, *[30.0] * 19)


class RollupFailsError(Exception):
    """Rollups that could not be made again; the sentence says which, and what to do."""


async def cascade(
    pool: asyncpg.Pool, hours: Sequence[Window], reach: Callable[[str], None] = lambda _: None
) -> int:
    """Make every rollup again over these ranges of hours; how many refreshes that took.

    It is forced: a refresh that crossed the rows' commit may have passed over them without a
    trace. Buckets that are still open are left to real-time aggregation.

    Args:
        hours: whole ones, UTC, in order.

    Raises:
        RollupFailsError: some could not be made again; all others but those that read them were.
        asyncpg.PostgresError, OSError: the shard does not answer.
    """
    if not hours:
        return 0
    async with coordinating(pool) as connection:
        await _patiently(lambda: take_in(connection))
        held = await held_windows(connection, hours[0][0], hours[-1][1])
        shown = await refresh_queue.ends(connection)
        now = datetime.now(UTC)
        count = 0
        failed: dict[str, asyncpg.PostgresError] = {}  # by rollup, those that read one too
        for rollup in ROLLUPS:
            if rollup.source in failed:
                failed[rollup.name] = failed[rollup.source]
                continue
            found: list[Window] = []
            for hour in hours:
                found += closed_within(rollup.bucket, hour, held, now)
            try:
                count += await _force(connection, rollup, _before(shown.get(rollup.name), found))
            except asyncpg.PostgresError as error:
                if kind_of(error) == "transient" and error.sqlstate != TIMED_OUT:
                    raise
                failed[rollup.name] = error
            reach(f"after_{rollup.name}")
        if failed:
            first = next(iter(failed.values()))
            raise RollupFailsError(
                f"{', '.join(failed)} could not be refreshed: {type(first).__name__}: {first}. All "
                "other rollups were. See docs/runbooks/FootfallRollupFailing.md"
            ) from first
    return count


def _before(end: datetime | None, found: Iterable[Window]) -> list[Window]:
    """What of the windows lies before a day that the rollup could not take in yet: a refresh
    beyond it would hide that day's rows, and questions read raw rows from there on."""
    cut = merged(found)
    return cut if end is None else [(a, min(b, end)) for a, b in cut if a < end]


async def _force(connection: Connection, rollup: Rollup, found: Sequence[Window]) -> int:
    """A day at a time: a year of a large shard does not fit into one statement's time."""
    pieces = by_day(found)
    for start, end in pieces:
        await _patiently(partial(refresh, connection, rollup, start, end, force=True))
        await refresh_queue.note_done_within(connection, rollup, start, end)
    return len(pieces)


async def _patiently(call: Callable[[], Awaitable[object]]) -> None:
    """A policy may be refreshing the same buckets: that is refused at once, so try again."""
    await patiently(call, RETRY_S, (asyncpg.PostgresError,))
