"""The last resort: a batch that the database refuses is halved until the rows at fault are found.

It should never run: each row that it finds is a gap in the transform, to be closed there.
"""

from typing import Final

import asyncpg
import polars as pl

from db.copier import copy_rows
from db.errors import kind_of
from db.pools import transaction
from events.batch import Processed
from events.privacy import redact
from events.reasons import Reason
from ingester.batch import Ready

_PLACE: Final = ["kafka_partition", "log_offset"]
_TRIAL_WITHIN_S: Final = 180.0


async def without_culprits(pool: asyncpg.Pool, ready: Ready) -> Processed:
    """The batch with the rows that the database refuses turned into rejects.

    Raises:
        RuntimeError: no row is refused by itself: the fault is not in the data.
        asyncpg.PostgresError: the database refuses for another reason than a row's values.
    """
    processed = ready.processed
    bad = await _culprits(pool, "events", processed.rows)
    bad_items = await _culprits(pool, "event_items", processed.items)
    culprits = pl.concat([bad.select(_PLACE), bad_items.select(_PLACE)]).unique()
    if culprits.is_empty():
        raise RuntimeError("the database refused a batch, yet none of its rows alone")
    gaps = processed.rows.join(culprits, on=_PLACE, how="semi").select(
        *_PLACE,
        "logged_at",
        "merchant_id",
        "event_id",
        "ts",
        reason=pl.lit(str(Reason.TRANSFORM_GAP)),
        field=pl.lit(None, pl.String),
        detail=pl.lit("the database refused the row; the transform should have"),
    )
    return Processed(
        processed.rows.join(culprits, on=_PLACE, how="anti", maintain_order="left"),
        processed.items.join(culprits, on=_PLACE, how="anti", maintain_order="left"),
        pl.concat(
            [
                processed.rejects,
                gaps.join(_raw(ready, culprits), on=_PLACE).select(processed.rejects.columns),
            ]
        ),
    )


def _raw(ready: Ready, culprits: pl.DataFrame) -> pl.DataFrame:
    messages = ready.batch.messages
    columns = {
        "kafka_partition": messages.partitions,
        "log_offset": messages.offsets,
        "raw": messages.values,
    }
    schema = {"kafka_partition": pl.Int32, "raw": pl.Binary}
    found = pl.DataFrame(columns, schema_overrides=schema).join(culprits, on=_PLACE, how="semi")
    return found.with_columns(pl.col("raw").map_elements(redact, return_dtype=pl.Binary))


async def _culprits(pool: asyncpg.Pool, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    if rows.is_empty() or await _is_accepted(pool, table, rows):
        return rows.clear()
    if rows.height == 1:
        # Refused alone and once more: no passing fault of the server costs an event.
        return rows.clear() if await _is_accepted(pool, table, rows) else rows
    half = rows.height // 2
    return pl.concat(
        [await _culprits(pool, table, rows[:half]), await _culprits(pool, table, rows[half:])]
    )


class _UndoneError(Exception):
    """Ends a trial's transaction without its rows."""


async def _is_accepted(pool: asyncpg.Pool, table: str, rows: pl.DataFrame) -> bool:
    try:
        async with transaction(pool, within_s=_TRIAL_WITHIN_S) as connection:
            await copy_rows(connection, table, rows)
            raise _UndoneError
    except _UndoneError:
        return True
    except asyncpg.PostgresError as error:
        if kind_of(error) != "data":
            raise
        return False
