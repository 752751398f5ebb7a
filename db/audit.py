"""Rows held against what the log says, and rollups against the rows: where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from db.pools import Connection
from db.replacement import EVENT_ROW
from db.rollup_sql import bucket_of
from db.rollups import Rollup

# The hash of a set of rows does not depend on their order: hashes of single rows, summed.
_PROOF: Final = f"""
SELECT count(*) AS rows,
       to_hex((coalesce(sum(hashtextextended(ROW{EVENT_ROW}::text, 0)::numeric), 0)
               % 9223372036854775807)::int8) AS hash
  FROM {{table}} AS held
"""
_WHERE: Final = """
SELECT places.merchant_id, hour, count(n.log_offset) AS log_rows, count(o.log_offset) AS held_rows,
       coalesce(sum(n.value_minor), 0)::int8 AS log_value,
       coalesce(sum(o.value_minor), 0)::int8 AS held_value, count(*) AS differing
  FROM changed LEFT JOIN old_events AS o USING (log_offset)
  LEFT JOIN new_events AS n USING (log_offset),
       LATERAL (SELECT coalesce(o.merchant_id, n.merchant_id) AS merchant_id,
                       date_trunc('hour', coalesce(n.ts, o.ts), 'UTC') AS hour) AS places
 GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """A set of rows: how many, and a hash that does not depend on their order."""

    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class RowsDiffer:
    """A merchant's hour in which rows are not what the log says; counts are of those rows alone."""

    merchant_id: int
    hour: datetime
    log_rows: int
    held_rows: int
    log_value: int
    held_value: int
    differing: int


@dataclass(frozen=True, slots=True)
class RollupDiffers:
    """A bucket of a rollup that is not what its source makes of it."""

    rollup: str
    merchant_id: int
    bucket: datetime


async def proofs(connection: Connection) -> tuple[Proof, Proof]:
    """Of the rows laid out: the log's, and the table's."""
    found = []
    for table in ("new_events", "old_events"):
        row = await connection.fetchrow(_PROOF.format(table=table))
        assert row is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
        found.append(Proof(*row))
    return found[0], found[1]


async def rows_that_differ(connection: Connection) -> list[RowsDiffer]:
    """Where the rows laid out and compared differ."""
    return [RowsDiffer(*row) for row in await connection.fetch(_WHERE)]


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
