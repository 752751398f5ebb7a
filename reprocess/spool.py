"""Files laid out as a log of their own: the messages of a window, by partition and offset, on disk.

Whatever order files come in and however large they are, memory stays bounded: they are read once
into a database of one file, which a run then reads slice by slice.

A service's own log has no offsets. Its lines get some below zero that depend on nothing but what
the lines say: their partition, their event time, and their order among those of one millisecond.
So the same files give the same offsets, and no two windows share one.
"""

import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from db.history import Offsets
from events.batch import Messages
from reprocess.topic_log import RefusedError

BATCH: Final = 50_000
NEAR: Final = 5_000  # offsets that lie so near each other are one range
_LOWEST: Final = -(2**62)
_BITS: Final = 20  # so many lines of one millisecond and partition have offsets of their own
_LAY_OUT: Final = """
CREATE TABLE message (partition INTEGER, at INTEGER, nth INTEGER, ms INTEGER, logged_ms INTEGER,
                      value BLOB, PRIMARY KEY (partition, at, nth)) WITHOUT ROWID
"""
# Several lines of one millisecond stand at one place: the later ones count on from it.
_READ: Final = """
SELECT at + row_number() OVER (PARTITION BY at ORDER BY nth) - 1, logged_ms, value
  FROM message WHERE partition = ? AND at >= ? AND at < ? ORDER BY at, nth
"""
_CROWDED: Final = """
SELECT partition, ms FROM message GROUP BY partition, at HAVING count(*) > ? LIMIT 1
"""
Longs = npt.NDArray[np.int64]


def offset_of(ms: Longs) -> Longs:
    """The offset of the first line of an event time, epoch milliseconds, in a service's log."""
    return _LOWEST + (ms << _BITS)


@dataclass(slots=True)
class Spool:
    """The messages of files, on disk; a context manager that leaves nothing behind."""

    folder: "tempfile.TemporaryDirectory[str]" = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="footfall-files-")
    )
    ends: dict[int, int] = field(default_factory=dict)  # behind the last offset of each partition

    def __enter__(self) -> Self:
        with self.connect() as connection:
            connection.execute(_LAY_OUT)
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def connect(self) -> sqlite3.Connection:
        """A connection of one's own, for any one thread at a time."""
        connection = sqlite3.connect(Path(self.folder.name) / "messages", check_same_thread=False)
        # It is made again from the files at any time: nothing need survive a crash.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -65536")
        return connection

    def add(
        self, connection: sqlite3.Connection, messages: Messages, ms: Longs, nth: Longs | None
    ) -> int:
        """Add messages with their event times; how many were not there yet.

        Args:
            nth: the place of each line among all lines read, where the messages have no offsets.
        """
        at = messages.offsets if nth is None else offset_of(ms)
        nth = np.zeros(len(messages), np.int64) if nth is None else nth
        order = np.lexsort((nth, at, messages.partitions))  # in the order of the table: no search
        messages, at, nth, ms = messages.take(order), at[order], nth[order], ms[order]
        for partition in np.unique(messages.partitions).tolist():
            last = int(at[messages.partitions == partition].max()) + 1
            self.ends[partition] = max(self.ends.get(partition, last), last)
        rows = zip(
            messages.partitions.tolist(),
            at.tolist(),
            nth.tolist(),
            ms.tolist(),
            messages.logged_ms.tolist(),
            messages.values,
            strict=True,
        )
        before = connection.total_changes
        connection.executemany("INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        return connection.total_changes - before

    def finish(self, connection: sqlite3.Connection) -> None:
        """Everything is added: make it ready to be asked.

        Raises:
            RefusedError: more lines of one millisecond than offsets can tell apart.
        """
        connection.execute("CREATE INDEX by_time ON message (partition, ms, at)")
        connection.commit()
        crowded = connection.execute(_CROWDED, (1 << _BITS,)).fetchone()
        if crowded is not None:
            raise RefusedError(
                f"more than {1 << _BITS:,} lines of partition {crowded[0]} tell one and the same "
                f"time ({crowded[1]} ms since 1970): their times are too coarse to replay"
            )

    def hours(self, connection: sqlite3.Connection, partition: int) -> dict[int, int]:
        """Hour since the epoch -> messages of that event time."""
        return dict(
            connection.execute(
                "SELECT ms / 3600000, count(*) FROM message WHERE partition = ? GROUP BY 1",
                (partition,),
            ).fetchall()
        )


def ranges_within(
    connection: sqlite3.Connection, partition: int, window: tuple[datetime, datetime]
) -> list[Offsets]:
    """The offsets of a window's messages, those that lie near each other as one range."""
    bounds = [_ms(each) for each in window]
    count, first, last = connection.execute(
        "SELECT count(*), min(at), max(at) FROM message WHERE partition = ? AND ms >= ? AND ms < ?",
        (partition, *bounds),
    ).fetchone()
    if count == 0:
        return []
    if last < 0:  # in order of time already
        return [(first, last + (1 << _BITS))]
    found: list[Offsets] = []
    cursor = connection.execute(
        "SELECT at FROM message WHERE partition = ? AND ms >= ? AND ms < ? ORDER BY at",
        (partition, *bounds),
    )
    while rows := cursor.fetchmany(BATCH):
        places = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        breaks = np.flatnonzero(np.diff(places) > NEAR)
        starts = places[np.concatenate([[0], breaks + 1])].tolist()
        ends = (places[np.concatenate([breaks, [len(places) - 1]])] + 1).tolist()
        for start, end in zip(starts, ends, strict=True):
            if found and start - found[-1][1] <= NEAR:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return found


def count_within(
    connection: sqlite3.Connection, partition: int, window: tuple[datetime, datetime]
) -> int:
    """How many messages of a window there are."""
    asked = (partition, *(_ms(each) for each in window))
    found: int = connection.execute(
        "SELECT count(*) FROM message WHERE partition = ? AND ms >= ? AND ms < ?", asked
    ).fetchone()[0]
    return found


def mean_bytes(connection: sqlite3.Connection) -> float:
    """The mean size of the first messages."""
    found = connection.execute(
        "SELECT avg(length(value)) FROM (SELECT value FROM message LIMIT 1000)"
    ).fetchone()[0]
    return float(found or 0)


def read_batch(cursor: sqlite3.Cursor, partition: int) -> Messages | None:
    """The next messages that were asked for; None when there are no more."""
    rows: Sequence[tuple[int, int, bytes | None]] = cursor.fetchmany(BATCH)
    if not rows:
        return None
    offsets, logged, values = zip(*rows, strict=True)
    return Messages(
        list(values),
        np.full(len(rows), partition, np.int32),
        np.array(offsets, np.int64),
        np.array(logged, np.int64),
    )


def ask(connection: sqlite3.Connection, partition: int, offsets: Offsets) -> sqlite3.Cursor:
    """The messages of a range of offsets, in order."""
    return connection.execute(_READ, (partition, *offsets))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
