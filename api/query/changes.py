"""What changed in a shard since an answer was made: polled, so that a hit costs no round trip.

An answer is as good as new while its merchant has no new rows. The poll reads where each partition
stands, and which merchants the new batches are of; both lag by at most one poll, and the instant
that an answer then claims to be fresh as of is the polled one, never a later.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg
import structlog

from db.errors import kind_of

log = structlog.get_logger(__name__)

# Any of these changing means that history was replaced, or that reading has stopped.
_VERSION: Final = ("halted_reason", "replaced_at", "moved_to", "sliced_at", "ended_at")
POLL_S: Final = 0.5
BLIND_S: Final = 3.0  # without a poll for so long nothing is known
_MOST_ROWS: Final = 200_000  # new rows between two polls beyond which everyone counts as changed
_MOST_MERCHANTS: Final = 500_000

_STATE: Final = """
SELECT kafka_partition, next_offset, applied_until, halted_reason, replaced_at, moved_to,
       now() AS seen_at,
       (SELECT min(refreshed_at) FROM refresh_state) AS refreshed_at,
       (SELECT max(greatest(replaced_at, done_at)) FROM reprocess_slice) AS sliced_at,
       (SELECT max(ended_at) FROM reprocess_run) AS ended_at
  FROM ingest_offset WHERE topic = $1
"""

# Bounded by the ledger: a scan of the new batches' event time and log time alone. An event of an
# hour that is over may be late: rollups show it only after the next refresh.
_NEW: Final = """
WITH since AS (SELECT * FROM unnest($1::int4[], $2::int8[]) AS since (kafka_partition, first)),
     batch AS (SELECT min(min_ts) AS low, max(max_ts) AS high, min(min_logged_at) AS logged,
                      sum(event_rows) AS rows
                 FROM since JOIN ingest_batch USING (kafka_partition) WHERE end_offset > first),
     changed AS (SELECT merchant_id, min(ts) < date_trunc('hour', now(), 'UTC') AS late
                   FROM events JOIN since USING (kafka_partition)
                  WHERE log_offset >= first AND (SELECT rows FROM batch) <= $3
                    AND ts >= (SELECT low FROM batch) AND ts <= (SELECT high FROM batch)
                    AND logged_at >= (SELECT logged FROM batch)
                  GROUP BY merchant_id),
     -- A purchase that lost its order changed a day that may be over.
     told AS (SELECT merchant_id, bool_or(late) AS late
                FROM (TABLE changed UNION ALL
                      SELECT merchant_id, true FROM overtaken_order JOIN since
                       USING (kafka_partition) WHERE overtaken_by >= first) AS seen
               GROUP BY merchant_id)
SELECT now() AS seen_at, (SELECT rows FROM batch)::int8 AS rows,
       array_agg(merchant_id) AS merchants, array_agg(late) AS late
  FROM told
"""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a partition stood at a poll."""

    applied_until: datetime | None
    version: tuple[Any, ...]  # changes when history was replaced, or reading stops
    settled: bool  # no late event of the merchant waits to be refreshed into the rollups
    changed_at: float  # of the machine's clock: when the merchant's last change was noticed
    polled_at: float  # of the same clock: when the poll began that all this is of
    elsewhere_at: float = 0.0  # of the same clock: when a partition was last seen to come or go

    def has_all_of(self, later: "Stand") -> bool:
        """Whether every change of the merchant that `later` knows of was known by then: `later` may
        be another worker's, whose polls come at other times."""
        return later.changed_at == self.changed_at or later.changed_at <= self.polled_at

    def is_of_before(self, later: "Stand") -> bool:
        """Whether history was replaced or the partition was elsewhere between the two: what was
        told then is not to be told any more, for a later answer may have been told since."""
        return later.version != self.version or self.polled_at < later.elsewhere_at


@dataclass(slots=True)
class Changes:
    """One shard, watched."""

    pool: asyncpg.Pool
    topic: str
    _rows: dict[int, asyncpg.Record] = field(default_factory=dict)
    _changed: dict[int, float] = field(default_factory=dict)  # merchant -> when it was noticed
    _late: dict[int, datetime] = field(default_factory=dict)
    _all_changed: tuple[float, datetime] | None = None
    _elsewhere_at: float = 0.0
    _polled: float = -1e9

    def stand(self, partition: int, merchant_id: int) -> Stand | None:
        """What is known of a merchant's rows; None where nothing is."""
        row = self._rows.get(partition)
        if row is None or self._all_changed is None or time.monotonic() - self._polled > BLIND_S:
            return None
        changed_at = max(self._changed.get(merchant_id, 0), self._all_changed[0])
        late_at = max(self._late.get(merchant_id, self._all_changed[1]), self._all_changed[1])
        settled = row["refreshed_at"] is not None and row["refreshed_at"] > late_at
        # It lives elsewhere, or is about to: whether it does, the map must say.
        settled = settled and row["moved_to"] is None
        version = tuple(row[name] for name in _VERSION)
        return Stand(
            row["applied_until"], version, settled, changed_at, self._polled, self._elsewhere_at
        )

    async def watch(self) -> None:
        """Poll until cancelled. A shard that is away is not an error here: nothing is known of it
        meanwhile.

        Raises:
            asyncpg.PostgresError: the shard answers and refuses, a table is missing say.
        """
        while True:
            try:
                await self.poll()
            except Exception as error:
                if kind_of(error) != "transient":
                    raise
                log.debug("not_polled", error=repr(error))
            await asyncio.sleep(POLL_S)

    async def poll(self) -> None:
        """Read where the shard stands, and who changed since the last poll."""
        began = time.monotonic()
        rows = {
            row["kafka_partition"]: row
            for row in await self.pool.fetch(_STATE, self.topic, timeout=5)
        }
        moved = {
            partition: self._rows[partition]["next_offset"]
            for partition, row in rows.items()
            if partition in self._rows
            and row["next_offset"] != self._rows[partition]["next_offset"]
        }
        if moved:
            await self._note(moved)
        # A database that was restored from a backup; a partition that came back from another shard.
        elsewhere = rows.keys() != self._rows.keys() or any(
            row["next_offset"] < self._rows[partition]["next_offset"]
            or row["moved_to"] != self._rows[partition]["moved_to"]
            for partition, row in rows.items()
        )
        if elsewhere:
            self._everyone(next(iter(rows.values()))["seen_at"] if rows else None)
            if self._rows:  # before the first poll there was nowhere to leave
                self._elsewhere_at = began
        self._rows, self._polled = rows, began

    async def _note(self, moved: dict[int, int]) -> None:
        found: Any = await self.pool.fetchrow(
            _NEW,
            list(moved),
            list(moved.values()),
            _MOST_ROWS,
            timeout=5,
        )
        noticed_at = time.monotonic()
        if (found["rows"] or 0) > _MOST_ROWS or len(self._changed) > _MOST_MERCHANTS:
            self._changed.clear()
            self._late.clear()
            self._everyone(found["seen_at"])
        for merchant, late in zip(found["merchants"] or (), found["late"] or (), strict=True):
            self._changed[merchant] = noticed_at
            if late:
                self._late[merchant] = found["seen_at"]

    def _everyone(self, seen_at: datetime | None) -> None:
        if seen_at is not None:
            self._all_changed = (time.monotonic(), seen_at)
