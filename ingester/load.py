"""One transaction: move the fence, decide repeats, copy the rows, keep the rejects, write the ledger.

The isolation level is REPEATABLE READ so that TimescaleDB always logs invalidations: under READ
COMMITTED a refresh that crosses a bucket while our COMMIT is in flight would lose the row from the
rollup for good.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import numpy as np
import polars as pl
import structlog

from db.copier import copy_rows
from db.errors import kind_of
from db.ledger import LedgerLine, move_fence, record
from events.batch import Processed
from events.reasons import Reason
from events.transform import LOGIC_VERSION
from ingester.batch import Batch, Ready
from ingester.dedupe import RecentKeys, duplicates

log = structlog.get_logger(__name__)

Reach = Callable[[str], None]

_FIRST_ORDERS: Final = """
INSERT INTO first_order (merchant_id, order_id, ts, kafka_partition, log_offset)
SELECT * FROM unnest($1::int8[], $2::text[], $3::timestamptz[], $4::int4[], $5::int8[])
    ON CONFLICT (merchant_id, order_id) DO NOTHING
RETURNING kafka_partition, log_offset
"""
_PLACE: Final = ["kafka_partition", "log_offset"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a transaction committed, and the partitions whose fence was not ours."""

    rows: int
    rejects: pl.DataFrame
    duplicates: int
    lost: frozenset[int]


class Loader:
    """Loads the batches of one shard, in order."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        topic_id: str,
        dedupe_window: timedelta,
        reach: Reach = lambda _: None,
    ) -> None:
        self._pool = pool
        self._topic_id = topic_id
        self._reach = reach
        self.recent = RecentKeys(dedupe_window)

    async def load(self, ready: Ready) -> Loaded:
        """Commit a batch, all or nothing but for partitions that are no longer ours.

        Raises:
            asyncpg.PostgresError, OSError: transient ones are the caller's to try again.
        """
        try:
            return await self._transaction(ready.batch, ready.processed)
        except asyncpg.PostgresError as error:
            if kind_of(error) != "data":
                raise
            log.error("transform_gap", sqlstate=error.sqlstate, detail=str(error))
        mended = await self._without_culprits(ready)
        return await self._transaction(ready.batch, mended)

    async def _transaction(self, batch: Batch, processed: Processed) -> Loaded:
        partitions = {span.partition for span in batch.spans}
        async with self._pool.acquire() as connection:
            self._reach("before_fence")
            async with connection.transaction(isolation="repeatable_read"):
                ours = await move_fence(connection, self._topic_id, batch.spans)
                self._reach("after_fence")
                if not ours:
                    return Loaded(0, processed.rejects.clear(), 0, frozenset(partitions))
                processed = _only(processed, ours)
                await self.recent.warm_up(connection, ours)
                rows, items, repeated = await self._without_repeats(connection, processed)
                rows, items = await self._count_orders_once(connection, rows, items)
                order = [pl.col("ts").dt.date(), "merchant_id", "ts"]
                await copy_rows(connection, "events", rows.sort(order))
                self._reach("mid_copy")
                await copy_rows(connection, "event_items", items.sort(order))
                rejects = processed.rejects.select(
                    pl.lit(self._topic_id).alias("topic_id"), pl.all()
                )
                await copy_rows(connection, "rejected_event", rejects)
                await copy_rows(connection, "duplicate_event", repeated)
                lines = _ledger_lines(batch, ours, rows, items, rejects, repeated)
                await record(connection, self._topic_id, lines, LOGIC_VERSION)
                self._reach("before_commit")
            self._reach("after_commit")
        return Loaded(rows.height, rejects, repeated.height, frozenset(partitions - ours))

    async def _without_repeats(
        self, connection: asyncpg.Connection, processed: Processed
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        rows = processed.rows.sort(_PLACE)
        places = await duplicates(connection, self.recent, rows)
        repeated = rows[places].select(
            "merchant_id", "ts", "event_id", "kafka_partition", "log_offset", "logged_at"
        )
        if places.size == 0:
            return rows, processed.items, repeated
        kept = np.delete(np.arange(rows.height), places)
        items = processed.items.join(repeated, on=_PLACE, how="anti", maintain_order="left")
        return rows[kept], items, repeated

    async def _count_orders_once(
        self, connection: asyncpg.Connection, rows: pl.DataFrame, items: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Mark the purchases whose order id was counted before, and their items."""
        orders = rows.filter(pl.col("event") == "purchase").sort(_PLACE)
        if orders.is_empty():
            return rows, items
        columns = ("merchant_id", "order_id", "ts", *_PLACE)
        first = await connection.fetch(
            _FIRST_ORDERS, *(orders.get_column(name).to_list() for name in columns)
        )
        if len(first) == orders.height:
            return rows, items
        counted = pl.DataFrame(
            [tuple(row) for row in first],
            schema={"kafka_partition": pl.Int32, "log_offset": pl.Int64},
            orient="row",
        )
        again = orders.join(counted, on=_PLACE, how="anti").select(
            *_PLACE, pl.lit(value=False).alias("_counted")
        )
        return _uncounted(rows, again), _uncounted(items, again)

    async def _without_culprits(self, ready: Ready) -> Processed:
        """Halve the rows until those are found that the database refuses; they become rejects."""
        processed = ready.processed
        bad = await self._culprits("events", processed.rows)
        bad_items = await self._culprits("event_items", processed.items)
        culprits = pl.concat([bad.select(_PLACE), bad_items.select(_PLACE)]).unique()
        if culprits.is_empty():
            raise RuntimeError("the database refused a batch, yet none of its rows alone")
        messages = ready.batch.messages
        wanted = set(culprits.iter_rows())
        places = [
            place
            for place, key in enumerate(
                zip(messages.partitions.tolist(), messages.offsets.tolist(), strict=True)
            )
            if key in wanted
        ]
        gaps = processed.rows.join(culprits, on=_PLACE, how="semi").select(
            *_PLACE,
            "logged_at",
            "merchant_id",
            "event_id",
            reason=pl.lit(str(Reason.TRANSFORM_GAP)),
            field=pl.lit(None, pl.String),
            detail=pl.lit("the database refused the row; the transform should have"),
        )
        raws = pl.DataFrame(
            {
                "kafka_partition": messages.partitions[places],
                "log_offset": messages.offsets[places],
                "raw": [messages.values[place] for place in places],
            },
            schema_overrides={"kafka_partition": pl.Int32, "raw": pl.Binary},
        )
        return Processed(
            processed.rows.join(culprits, on=_PLACE, how="anti", maintain_order="left"),
            processed.items.join(culprits, on=_PLACE, how="anti", maintain_order="left"),
            pl.concat([processed.rejects, gaps.join(raws, on=_PLACE)]),
        )

    async def _culprits(self, table: str, rows: pl.DataFrame) -> pl.DataFrame:
        if rows.is_empty() or await self._is_accepted(table, rows):
            return rows.clear()
        if rows.height == 1:
            return rows
        half = rows.height // 2
        return pl.concat(
            [
                await self._culprits(table, rows[:half]),
                await self._culprits(table, rows[half:]),
            ]
        )

    async def _is_accepted(self, table: str, rows: pl.DataFrame) -> bool:
        async with self._pool.acquire() as connection:
            trial = connection.transaction()
            await trial.start()
            try:
                await copy_rows(connection, table, rows)
            except asyncpg.PostgresError as error:
                if kind_of(error) != "data":
                    raise
                return False
            finally:
                await trial.rollback()
        return True


def _only(processed: Processed, partitions: set[int]) -> Processed:
    ours = pl.col("kafka_partition").is_in(sorted(partitions))
    return Processed(
        processed.rows.filter(ours), processed.items.filter(ours), processed.rejects.filter(ours)
    )


def _uncounted(rows: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    marked = rows.join(again, on=_PLACE, how="left", maintain_order="left")
    return marked.with_columns(pl.col("_counted").fill_null(pl.col("counted")).alias("counted")).drop(
        "_counted"
    )


def _ledger_lines(
    batch: Batch,
    ours: set[int],
    rows: pl.DataFrame,
    items: pl.DataFrame,
    rejects: pl.DataFrame,
    repeated: pl.DataFrame,
) -> list[LedgerLine]:
    lines = []
    for span in batch.spans:
        if span.partition not in ours:
            continue
        here = pl.col("kafka_partition") == span.partition
        stored = rows.filter(here).get_column("ts")
        places = batch.messages.partitions == span.partition
        first_ms = int(batch.messages.logged_ms[places].min())
        lines.append(
            LedgerLine(
                span=span,
                messages=int(places.sum()),
                event_rows=stored.len(),
                item_rows=items.filter(here).height,
                rejects=rejects.filter(here).height,
                duplicates=repeated.filter(here).height,
                min_ts=_moment(stored.min()),
                max_ts=_moment(stored.max()),
                min_logged_at=span.logged_at.fromtimestamp(first_ms / 1000, span.logged_at.tzinfo),
            )
        )
    return lines


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
