"""The one way from a question to its shard and back."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from api.problems import problem
from api.query.sql import Statement

ACQUIRE_S: Final = 3.0  # how long a question waits for a connection before its shard counts as away
SCAN_ACQUIRE_S: Final = 12.0  # behind scans of others, each of which ends within ten seconds


class MovedError(Exception):
    """The merchant's rows live in another shard by now: ask there."""


async def _stays(_: bool) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Place:
    """Where a merchant's rows live."""

    pool: asyncpg.Pool
    scans: asyncpg.Pool  # for what reads raw rows or long results: rollups never wait behind those
    partition: int
    topic: str
    shard: int = 0  # its number among the settings'
    # whether the catalogue, asked anew, agrees though the shard says that the partition has left it
    # (true), or that it never saw it (false)
    is_right: Callable[[bool], Awaitable[bool]] = _stays


async def fetch(place: Place, statement: Statement) -> dict[str, Any]:
    """The one row that a statement gives: one round trip.

    Raises:
        MovedError: the shard is not the merchant's any more.
        asyncpg.PostgresError, OSError, TimeoutError: the shard cannot answer now.
    """
    pool = place.scans if statement.costs else place.pool
    patience = SCAN_ACQUIRE_S if statement.costs else ACQUIRE_S
    async with pool.acquire(timeout=patience) as connection:
        found = await connection.fetchrow(statement.text, *statement.parameters)
    assert found is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    told = dict(found)
    await check_place(place, told)
    return told


async def check_place(place: Place, told: Mapping[str, Any]) -> None:
    """A shard that a partition is about to leave is right, as of its freshness, until the map is
    turned; then it is not to be believed. Nor is a replica that has yet to hear of a move.

    Args:
        told: what the shard told together with the numbers, or later.

    Raises:
        MovedError: the partition lives elsewhere, or the replica lags.
    """
    left = told["moved_to"] is not None
    if (left or told["unread"]) and not await place.is_right(left):
        raise MovedError


def check_cost(rows: int, limit: int) -> None:
    """Refuse what would read more raw rows than a question may.

    Raises:
        ProblemDetailsException: 422.
    """
    if rows > limit:
        raise problem(
            422,
            "too_expensive",
            f"No rollup answers this, and about {rows} raw rows would have to be read; a question "
            f"may read {limit}. Shorten the range, or drop a dimension or a filter.",
            rows=rows,
            limit=limit,
        )
