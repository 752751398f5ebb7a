"""One transaction: move the fence, decide repeats, copy the rows, keep the rejects, note it all.

The isolation level is REPEATABLE READ so that TimescaleDB always logs invalidations: under READ
COMMITTED a refresh that crosses a bucket while our COMMIT is in flight would lose the row from the
rollup for good.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg
import polars as pl
import structlog

from db.copier import ROW_ORDER, copy_rows
from db.errors import kind_of
from db.ledger import LedgerLine, Span, move_fence, note_days, record
from db.pools import Connection, transaction
from events.batch import Processed
from events.transform import LOGIC_VERSION
from ingester.batch import Batch, Outcome, Ready
from ingester.culprits import without_culprits
from ingester.dedupe import RecentKeys, duplicates, without
from ingester.order_claims import PLACE, claim_orders

log = structlog.get_logger(__name__)

Reach = Callable[[str], None]

# Each statement has a time-out of its own; this is for whatever has none.
BATCH_WITHIN_S: Final = 180.0


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
        *,
        lives_in: int | None = None,
    ) -> None:
        """`lives_in` is the shard from which partitions are being copied into this one."""
        self._pool = pool
        self._topic_id = topic_id
        self._reach = reach
        self._lives_in = lives_in
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
        mended = await without_culprits(self._pool, ready)
        return await self._transaction(ready.batch, mended)

    async def _transaction(self, batch: Batch, processed: Processed) -> Loaded:
        partitions = {span.partition for span in batch.spans}
        self._reach("before_fence")
        async with transaction(self._pool, "REPEATABLE READ", BATCH_WITHIN_S) as connection:
            ours = await move_fence(connection, self._topic_id, batch.spans, self._lives_in)
            self._reach("after_fence")
            if not ours:
                return Loaded(0, processed.rejects.clear(), 0, frozenset(partitions))
            await self.recent.warm_up(connection, ours)
            stored = await self._settle(connection, _only(processed, ours))
            await self._copy(connection, stored)
            lines = [_line(batch, span, stored) for span in batch.spans if span.partition in ours]
            await record(connection, self._topic_id, lines, LOGIC_VERSION)
            await note_days(connection, days_of(stored.rows), LOGIC_VERSION)
            self._reach("before_commit")
        self._reach("after_commit")
        return Loaded(
            stored.rows.height, stored.rejects, stored.repeated.height, frozenset(partitions - ours)
        )

    async def _settle(self, connection: Connection, processed: Processed) -> Outcome:
        """Decide what only the table can tell: repeats, and orders that were counted before."""
        rows, items, repeated = await self._without_repeats(connection, processed)
        claimed = await claim_orders(connection, rows)
        if not claimed.uncounted.is_empty():
            rows, items = (uncounted(part, claimed.uncounted) for part in (rows, items))
        return Outcome(rows, items, processed.rejects, repeated, claimed.overtaken)

    async def _copy(self, connection: Connection, stored: Outcome) -> None:
        await copy_rows(connection, "events", stored.rows.sort(*ROW_ORDER))
        self._reach("mid_copy")
        await copy_rows(connection, "event_items", stored.items.sort(*ROW_ORDER))
        topic_id = pl.lit(self._topic_id).alias("topic_id")
        await copy_rows(connection, "rejected_event", stored.rejects.select(topic_id, pl.all()))
        await copy_rows(connection, "duplicate_event", stored.repeated)

    async def _without_repeats(
        self, connection: Connection, processed: Processed
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        rows = processed.rows.sort(PLACE)
        places = await duplicates(connection, self.recent, rows)
        return without(places, rows, processed.items)


def _only(processed: Processed, partitions: set[int]) -> Processed:
    ours = pl.col("kafka_partition").is_in(sorted(partitions))
    return Processed(
        processed.rows.filter(ours), processed.items.filter(ours), processed.rejects.filter(ours)
    )


def uncounted(rows: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """Rows or items, those at the places of `again` marked as not counted."""
    mark = again.select(*PLACE, pl.lit(value=False).alias("_counted"))
    marked = rows.join(mark, on=PLACE, how="left", maintain_order="left")
    return marked.with_columns(
        pl.col("_counted").fill_null(pl.col("counted")).alias("counted")
    ).drop("_counted")


def days_of(rows: pl.DataFrame) -> list[tuple[int, date]]:
    """The (partition, UTC day)s of rows."""
    return rows.select("kafka_partition", pl.col("ts").dt.date()).unique().rows()


def _line(batch: Batch, span: Span, stored: Outcome) -> LedgerLine:
    here = pl.col("kafka_partition") == span.partition
    times = stored.rows.filter(here).get_column("ts")
    # A rollup is refreshed where batches changed rows: also where a purchase lost its order.
    changed = pl.concat([times, stored.overtaken.filter(here).get_column("ts")])
    rejects, repeated = stored.rejects.filter(here), stored.repeated.filter(here)
    all_times = pl.concat([times, rejects.get_column("ts"), repeated.get_column("ts")])
    places = batch.messages.partitions == span.partition
    logged_ms = batch.messages.logged_ms[places]
    first = datetime.fromtimestamp(int(logged_ms.min()) / 1000, UTC) if logged_ms.size else None
    return LedgerLine(
        span=span,
        messages=int(places.sum()),
        event_rows=times.len(),
        item_rows=stored.items.filter(here).height,
        rejects=rejects.height,
        duplicates=repeated.height,
        min_ts=instant_or_none(changed.min()),
        max_ts=instant_or_none(changed.max()),
        min_logged_at=first or span.logged_at,
        first_ts=instant_or_none(all_times.min()),
        last_ts=instant_or_none(all_times.max()),
    )


def instant_or_none(value: object) -> datetime | None:
    """The minimum or maximum of a datetime column, which is None where the column is empty."""
    return value if isinstance(value, datetime) else None
