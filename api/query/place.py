"""The one way from a question to its shard and back."""

from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from api.problems import problem
from api.query.sql import Statement

ACQUIRE_S: Final = 3.0  # how long a question waits for a connection before its shard counts as away


@dataclass(frozen=True, slots=True)
class Place:
    """Where a merchant's rows live."""

    pool: asyncpg.Pool
    partition: int
    topic: str
    shard: int = 0  # its number among the settings'


async def fetch(place: Place, statement: Statement) -> dict[str, Any]:
    """The one row that a statement gives: one round trip.

    Raises:
        asyncpg.PostgresError, OSError, TimeoutError: the shard cannot answer now.
    """
    async with place.pool.acquire(timeout=ACQUIRE_S) as connection:
        found = await connection.fetchrow(statement.text, *statement.parameters)
    assert found is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    return dict(found)


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
