"""A client's retry counts once: the same merchant, timestamp and event id within the window.

What came by a public key, which anyone can send with, repeats any such event, but makes none that
came from a server a repeat: a server's event repeats only a server's.

A rotating Bloom filter says which events may have been seen; the table has the last word on those,
so the answer is exact, the memory bounded, and a restart or a replay decides alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import numpy as np
import numpy.typing as npt
import polars as pl
from rbloom import Bloom

from db.pools import Connection
from events.batch import UTC_MICROS
from events.identity import fingerprint

FILTER_KEYS: Final = 4_000_000
FALSE_POSITIVES: Final = 0.01
_ROWS_AT_ONCE: Final = 20_000
# of rows, as `decide` takes them
_KEYED: Final = (
    pl.int_range(pl.len(), dtype=pl.Int64).alias("place"),
    "merchant_id",
    "ts",
    "event_id",
    "from_public_key",
    "logged_at",
)
_ODD_1: Final = np.uint64(0x9E3779B97F4A7C15)
_ODD_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)

# By the hash of the event id in the index: many events may have one merchant and timestamp.
_STORED: Final = """
SELECT asked.place, max(stored.logged_at) AS logged_at
  FROM unnest($1::int8[], $2::int8[], $3::timestamptz[], $4::text[], $5::bool[])
       AS asked (place, merchant_id, ts, event_id, from_public_key)
  JOIN events AS stored
    ON stored.merchant_id = asked.merchant_id AND stored.ts = asked.ts
   AND hashtextextended(stored.event_id, 0) = hashtextextended(asked.event_id, 0)
   AND stored.event_id = asked.event_id
   AND (asked.from_public_key OR NOT stored.from_public_key)
 WHERE stored.ts BETWEEN $6 AND $7
 GROUP BY asked.place
"""

_RECENT_WINDOW: Final = """
SELECT max(max_logged_at) AS newest FROM ingest_batch WHERE kafka_partition = $1
"""

_RECENT: Final = """
SELECT merchant_id, ts, event_id FROM events
 WHERE kafka_partition = $1 AND event_id IS NOT NULL AND logged_at >= $2
   AND ts >= (SELECT min(min_ts) FROM ingest_batch
               WHERE kafka_partition = $1 AND max_logged_at >= $2)
"""


class RecentKeys:
    """Which keys may have been seen within the window: filters of bounded size, oldest dropped."""

    def __init__(self, window: timedelta) -> None:
        self.window = window
        self._filters: list[_Filter] = []
        self._warm: set[int] = set()

    def forget(self, partitions: set[int]) -> None:
        """Another may have written these meanwhile: their recent keys must be read again."""
        self._warm -= partitions

    async def warm_up(self, connection: Connection, partitions: set[int]) -> None:
        """Fill the filters from the table for partitions that are new to us."""
        for partition in sorted(partitions - self._warm):
            newest = await connection.fetchval(_RECENT_WINDOW, partition)
            if newest is not None:
                cursor = await connection.cursor(_RECENT, partition, newest - self.window)
                while rows := await cursor.fetch(_ROWS_AT_ONCE):
                    self.add(_keys(_as_frame(rows)), newest)
            self._warm.add(partition)

    def maybe_seen(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """True wherever a key may have been added; never false where it has been."""
        listed = keys.tolist()
        seen = np.zeros(len(listed), np.bool_)
        for part in self._filters:
            seen |= np.fromiter(map(part.keys.__contains__, listed), np.bool_, len(listed))
        return seen

    def add(self, keys: npt.NDArray[np.int64], logged_at: datetime) -> None:
        """Remember keys that were logged up to `logged_at`."""
        self._filters = [f for f in self._filters if logged_at - f.newest <= self.window]
        current = self._filters[-1] if self._filters else None
        full = current is not None and current.count + len(keys) > FILTER_KEYS
        if current is None or full or logged_at - current.oldest > self.window:
            current = _Filter(Bloom(FILTER_KEYS, FALSE_POSITIVES), logged_at, logged_at)
            self._filters.append(current)
        current.keys.update(keys.tolist())
        current.count += len(keys)
        current.newest = max(current.newest, logged_at)


@dataclass(slots=True)
class _Filter:
    keys: Bloom
    oldest: datetime
    newest: datetime
    count: int = 0


def _keys(frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    """One integer a row for its merchant, timestamp and event id."""
    ids: npt.NDArray[np.uint64] = (
        frame.select(fingerprint("event_id")).to_series().to_numpy().view(np.uint64)
    )
    times = frame.get_column("ts").dt.epoch("us").to_numpy().view(np.uint64)
    merchants = frame.get_column("merchant_id").to_numpy().view(np.uint64)
    mixed: npt.NDArray[np.uint64] = (ids ^ (times * _ODD_1)) + merchants * _ODD_2
    return mixed.view(np.int64)


def _as_frame(rows: list[asyncpg.Record]) -> pl.DataFrame:
    return pl.DataFrame(
        [tuple(row) for row in rows],
        schema={"merchant_id": pl.Int64, "ts": UTC_MICROS, "event_id": pl.String},
        orient="row",
    )


async def duplicates(
    connection: Connection, recent: RecentKeys, rows: pl.DataFrame
) -> npt.NDArray[np.int64]:
    """Places in `rows` (in log order) of events that repeat one counted within the window."""
    keyed = rows.select(*_KEYED).filter(pl.col("event_id").is_not_null())
    if keyed.is_empty():
        return np.empty(0, np.int64)
    keys = _keys(keyed)
    flagged = recent.maybe_seen(keys) | _repeated(keys)
    newest = keyed.get_column("logged_at").max()
    found = await _decide(connection, keyed.filter(flagged), recent.window)
    recent.add(keys, newest)  # type: ignore[arg-type]  # the maximum of a datetime column
    return found


def _repeated(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True for every key that stands more than once in the batch."""
    return pl.Series(keys).is_duplicated().to_numpy()


async def _decide(
    connection: Connection, flagged: pl.DataFrame, window: timedelta
) -> npt.NDArray[np.int64]:
    if flagged.is_empty():
        return np.empty(0, np.int64)
    stored = await connection.fetch(
        _STORED,
        *(flagged.get_column(name).to_list() for name in flagged.columns[:5]),
        flagged.get_column("ts").min(),
        flagged.get_column("ts").max(),
    )
    return decide(flagged, {row["place"]: row["logged_at"] for row in stored}, window)


def decide(
    flagged: pl.DataFrame, in_table: Mapping[int, datetime], window: timedelta
) -> npt.NDArray[np.int64]:
    """Places of the repeats among rows that may be some.

    Args:
        flagged: `place, merchant_id, ts, event_id, from_public_key, logged_at`, in log order.
        in_table: place -> when the last event that it may repeat was logged, where the table holds
            one.
        window: a repeat that was logged later than this after the last counted one counts again.
    """
    counted: dict[tuple[int, datetime, str, bool], datetime] = {}
    repeats: list[int] = []
    for place, merchant, ts, event_id, public, logged_at in flagged.iter_rows():
        event = (merchant, ts, event_id)
        before = [counted.get((*event, False)), in_table.get(place)]
        if public:
            before.append(counted.get((*event, True)))
        if any(last is not None and logged_at - last <= window for last in before):
            repeats.append(place)
        else:
            counted[*event, public] = logged_at
    return np.array(repeats, np.int64)


def repeats_among(rows: pl.DataFrame, window: timedelta) -> npt.NDArray[np.int64]:
    """Places of the repeats in rows (in log order) that hold every event of their times."""
    flagged = (
        rows.select(*_KEYED)
        .filter(pl.col("event_id").is_not_null())
        .filter(pl.struct("merchant_id", "ts", "event_id").is_duplicated())
    )
    return decide(flagged, {}, window)


def without(
    places: npt.NDArray[np.int64], rows: pl.DataFrame, items: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows and items without the events at these places of `rows`, and those events as repeats."""
    repeated = rows[places].select(
        "merchant_id", "ts", "event_id", "kafka_partition", "log_offset", "logged_at"
    )
    if places.size == 0:
        return rows, items, repeated
    kept = np.delete(np.arange(rows.height), places)
    place = ["kafka_partition", "log_offset"]
    return rows[kept], items.join(repeated, on=place, how="anti", maintain_order="left"), repeated
