"""Rollups held against what they are made of: where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from db.pools import Connection
from db.rollup_sql import bucket_of
from db.rollups import Rollup


@dataclass(frozen=True, slots=True)
class RollupDiffers:
    """A bucket of a rollup that is not what its source makes of it."""

    rollup: str
    merchant_id: int
    bucket: datetime


@dataclass(frozen=True, slots=True)
class RollupFails:
    """A rollup that could not be compared with its source."""

    rollup: str
    error: str


async def rollup_differs(
    connection: Connection,
    rollup: Rollup,
    window: tuple[datetime, datetime],
    merchants: Sequence[int] | None,
) -> list[RollupDiffers]:
    """Buckets of a rollup that differ from its source, made again in one snapshot."""
    rows = await connection.fetch(_rollup_audit(rollup), *window, merchants)
    return [RollupDiffers(rollup.name, row["merchant_id"], row["bucket"]) for row in rows]


def _rollup_audit(rollup: Rollup) -> str:
    """Both ways of the difference. What `first` picks of two events at one instant is open, and is
    left out."""
    computed = dict(rollup.computed)
    measures = [m for m in rollup.measures if not m.expression.startswith("first(")]
    keys = [f"{computed[d]} AS {d}" if d in computed else d for d in rollup.dimensions]
    values = [f"{m.expression} AS {m.name}" for m in measures]
    groups = ", ".join(str(number) for number in range(1, 3 + len(keys)))
    made = (
        f"SELECT {', '.join([f'{bucket_of(rollup)} AS bucket', 'merchant_id', *keys, *values])} "
        f"FROM {rollup.source} WHERE {rollup.time_column} >= $1 AND {rollup.time_column} < $2 "
        f"AND ($3::int8[] IS NULL OR merchant_id = ANY ($3)) AND {rollup.where or 'true'} "
        f"GROUP BY {groups}"
    )
    names = ["bucket", "merchant_id", *rollup.dimensions, *(m.name for m in measures)]
    held = (
        f"SELECT {', '.join(names)} FROM {rollup.name} WHERE bucket >= $1 AND bucket < $2 "
        "AND ($3::int8[] IS NULL OR merchant_id = ANY ($3))"
    )
    return (
        f"WITH made AS MATERIALIZED ({made}), held AS MATERIALIZED ({held}) "
        "SELECT DISTINCT merchant_id, bucket FROM ("
        "(TABLE made EXCEPT ALL TABLE held) UNION ALL (TABLE held EXCEPT ALL TABLE made)"
        ") AS differing ORDER BY 2, 1"
    )
