"""The days that rollups have yet to take in: noted from the ledger, kept in `refresh_day`.

A row is one UTC day of one rollup. It stays until a refresh of that day has succeeded, whichever
process does it, and says since when and why where that fails.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from db.pools import Connection
from db.rollups import DAY, ROLLUPS, Rollup
from db.windows import Window, by_day, floor_to, merged

_MOMENT: Final = timedelta(microseconds=1)
SET_BACK: Final = timedelta(minutes=10)

_STATE: Final = "SELECT rollup, noted_at FROM refresh_state"

_DIRTY: Final = """
SELECT min(min_ts) AS low, max(max_ts) AS high, min(min_logged_at) AS logged_at,
       array_agg(DISTINCT kafka_partition) AS partitions
  FROM ingest_batch WHERE committed_at >= $1 AND min_ts IS NOT NULL
"""

# Ranges of the raw chunks that hold any of a range of event time.
_HELD: Final = """
SELECT range_start, range_end FROM timescaledb_information.chunks
 WHERE hypertable_name = 'events' AND hypertable_schema = current_schema()
   AND range_end > $1 AND range_start <= $2 ORDER BY range_start
"""

_NOTE: Final = """
INSERT INTO refresh_day AS known (rollup, day, since, logged_at, kafka_partitions)
SELECT rollup, day, $3, $4, $5
  FROM unnest($1::text[], $2::timestamptz[]) AS changed (rollup, day)
    ON CONFLICT (rollup, day) DO UPDATE
   SET since = least(known.since, excluded.since),
       logged_at = least(known.logged_at, excluded.logged_at),
       kafka_partitions = (SELECT array_agg(DISTINCT p) FROM
           unnest(known.kafka_partitions || excluded.kafka_partitions) AS p)
"""

# The watermark goes with it: a question must know which of the queued days it cannot see.
_NOTED: Final = """
UPDATE refresh_state AS state SET noted_at = $1, watermark = seen.watermark
  FROM unnest($2::text[], $3::timestamptz[]) AS seen (rollup, watermark)
 WHERE state.rollup = seen.rollup
"""

# The name of a rollup's table ends with the number that TimescaleDB's own view of it uses. Where
# nothing was materialised yet the watermark is NULL or the earliest instant there is.
_WATERMARKS: Final = """
SELECT view_name AS rollup, CASE WHEN watermark > '1970-01-01Z' THEN watermark END AS watermark
  FROM timescaledb_information.continuous_aggregates,
       LATERAL (SELECT _timescaledb_functions.to_timestamp(_timescaledb_functions.cagg_watermark(
           substring(materialization_hypertable_name FROM '[0-9]+$')::int4)) AS watermark) AS told
 WHERE view_schema = current_schema() AND view_name = ANY ($1::text[])
"""

_QUEUED: Final = """
SELECT rollup, day, since, coalesce(retry_at > now(), false) AS waits FROM refresh_day
"""

_DONE: Final = "DELETE FROM refresh_day WHERE rollup = $1 AND day = ANY ($2::timestamptz[])"

_DONE_WITHIN: Final = """
DELETE FROM refresh_day WHERE rollup = $1 AND day >= $2 AND day + INTERVAL '1 day' <= $3
"""

_ENDS: Final = """
SELECT rollup, min(day) AS day FROM refresh_day JOIN refresh_state USING (rollup)
 WHERE day >= coalesce(watermark, '-infinity') GROUP BY rollup
"""

_FAILED: Final = """
UPDATE refresh_day
   SET attempts = attempts + 1, error = $3, failed_at = coalesce(failed_at, now()),
       retry_at = now() + INTERVAL '30 seconds' * least(2 ^ least(attempts, 10), 20)
 WHERE rollup = $1 AND day = $2
"""

# Days at or beyond the watermark are left out: what arrived for them shows already.
_SETTLE: Final = """
UPDATE refresh_state AS state
   SET watermark = seen.watermark,
       refreshed_at = coalesce((SELECT least($1, min(since)) FROM refresh_day AS queued
                                 WHERE queued.rollup = state.rollup AND day < seen.watermark), $1)
  FROM unnest($2::text[], $3::timestamptz[]) AS seen (rollup, watermark)
 WHERE state.rollup = seen.rollup
"""


@dataclass(slots=True)
class Queue:
    """What a pass has before it.

    A day below its rollup's watermark is late: its rows are invisible until it is refreshed, in any
    order. From the watermark on, questions read raw rows; a refresh moves the watermark, so that
    these days must be taken oldest first, or one that was skipped would be hidden.
    """

    recent: datetime  # days from here on come before all others
    watermarks: dict[str, datetime | None]  # None: nothing was ever refreshed
    since: dict[str, dict[datetime, datetime]] = field(default_factory=dict)  # by rollup and day
    waiting: set[tuple[str, datetime]] = field(default_factory=set)  # not in this pass

    def next_run(self, span: int) -> tuple[Rollup, list[datetime]] | None:
        """The days of a rollup to refresh next: at most `span` neighbours, None where all is done.

        Recent days come first, the newest before the others; then late ones, in the order in which
        they were queued, so that none waits for ever; then those that questions see anyway.
        """
        found: list[tuple[tuple[int, float, float], int, list[datetime]]] = []
        for number, rollup in enumerate(ROLLUPS):
            if late := self._late_run(rollup, span):
                found.append((self._urgency(rollup, late[-1]), number, late))
            if ahead := self._run_ahead(rollup, span):
                found.append((self._urgency(rollup, ahead[0]), number, ahead))
        if not found:
            return None
        _, number, run = min(found)
        return ROLLUPS[number], run

    def is_late(self, rollup: Rollup, day: datetime) -> bool:
        """Whether the day lies below the rollup's watermark."""
        watermark = self.watermarks[rollup.name]
        return watermark is not None and day < watermark

    def wait(self, rollup: Rollup, days: Iterable[datetime]) -> None:
        """Leave these for a later pass."""
        self.waiting |= {(rollup.name, day) for day in days}

    def remove(self, rollup: Rollup, days: Iterable[datetime], end: datetime | None) -> None:
        """These are refreshed, up to `end`; None where no raw rows are kept of them."""
        for day in days:
            del self.since[rollup.name][day]
        watermark = self.watermarks[rollup.name]
        if end is not None:
            self.watermarks[rollup.name] = end if watermark is None else max(end, watermark)

    def _urgency(self, rollup: Rollup, day: datetime) -> tuple[int, float, float]:
        if day >= self.recent:
            return 0, 0, -day.timestamp()
        if self.is_late(rollup, day):
            return 1, self.since[rollup.name][day].timestamp(), -day.timestamp()
        return 2, 0, day.timestamp()

    def _is_ready(self, rollup: Rollup, day: datetime) -> bool:
        """Whether the day is queued, not waiting, and its source has taken it in."""
        return (
            day in self.since.get(rollup.name, ())
            and (rollup.name, day) not in self.waiting
            and day not in self.since.get(rollup.source, ())
        )

    def _late_run(self, rollup: Rollup, span: int) -> list[datetime]:
        """In order of time; its last day is the most urgent one."""
        late = [
            day
            for day in self.since.get(rollup.name, ())
            if self.is_late(rollup, day) and self._is_ready(rollup, day)
        ]
        if not late:
            return []
        run = [min(late, key=lambda day: self._urgency(rollup, day))]
        first = self.recent if run[0] >= self.recent else datetime.min.replace(tzinfo=UTC)
        while len(run) < span and run[-1] > first and self._is_ready(rollup, run[-1] - DAY):
            run.append(run[-1] - DAY)
        return run[::-1]

    def _run_ahead(self, rollup: Rollup, span: int) -> list[datetime]:
        """From the first day that is not late on; none while that one fails."""
        ahead = [d for d in self.since.get(rollup.name, ()) if not self.is_late(rollup, d)]
        if not ahead or not self._is_ready(rollup, min(ahead)):
            return []
        run = [min(ahead)]
        while len(run) < span and self._is_ready(rollup, run[-1] + DAY):
            run.append(run[-1] + DAY)
        return run


async def watermarks(connection: Connection) -> dict[str, datetime | None]:
    """Of each rollup, where raw rows begin to answer; None where they answer all."""
    names = [rollup.name for rollup in ROLLUPS]
    told = {row["rollup"]: row["watermark"] for row in await connection.fetch(_WATERMARKS, names)}
    return {name: told.get(name) for name in names}


async def note(connection: Connection, began: datetime, seen: dict[str, datetime | None]) -> None:
    """Queue the days that batches changed since the last time, for each rollup its closed buckets.

    Args:
        began: batches whose transaction began before it are committed.
        seen: the watermarks.
    """
    since: dict[datetime, list[str]] = {}
    for row in await connection.fetch(_STATE):
        since.setdefault(row["noted_at"], []).append(row["rollup"])
    for noted_at, names in since.items():
        # A clock that was set back stamps batches with times that were looked at already.
        first = noted_at if noted_at <= began else began - SET_BACK
        dirty = await connection.fetchrow(_DIRTY, first)
        changed: list[tuple[str, datetime]] = []
        assert dirty is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
        if dirty["low"] is not None:
            window = (dirty["low"], dirty["high"])
            held = await held_windows(connection, *window)
            for rollup in (rollup for rollup in ROLLUPS if rollup.name in names):
                closed = windows(rollup.bucket, window, held, began)
                changed += [(rollup.name, day) for day in days_of(closed)]
        async with connection.transaction():
            if changed:
                columns = [list(column) for column in zip(*changed, strict=True)]
                await connection.execute(
                    _NOTE, *columns, noted_at, dirty["logged_at"], dirty["partitions"]
                )
            await connection.execute(_NOTED, began, names, [seen.get(name) for name in names])


async def queued(
    connection: Connection, began: datetime, seen: dict[str, datetime | None], *, patient: bool
) -> Queue:
    """What is queued now.

    Args:
        began: when the pass began: today and yesterday, by then, are recent.
        seen: the watermarks.
        patient: days that failed wait for their time; else they are tried again at once.
    """
    queue = Queue(floor_to(DAY, began) - DAY, dict(seen))
    for row in await connection.fetch(_QUEUED):
        queue.since.setdefault(row["rollup"], {})[row["day"]] = row["since"]
        if patient and row["waits"]:
            queue.waiting.add((row["rollup"], row["day"]))
    return queue


async def note_done(connection: Connection, rollup: Rollup, days: Sequence[datetime]) -> None:
    """These days of a rollup were refreshed."""
    await connection.execute(_DONE, rollup.name, days)


async def note_done_within(
    connection: Connection, rollup: Rollup, start: datetime, end: datetime
) -> None:
    """Every bucket of a rollup within [start, end) was made again."""
    await connection.execute(_DONE_WITHIN, rollup.name, start, end)


async def ends(connection: Connection) -> dict[str, datetime]:
    """For the rollups that could not take in all: the day from which on raw rows must answer."""
    return {row["rollup"]: row["day"] for row in await connection.fetch(_ENDS)}


async def note_failed(
    connection: Connection, rollup: Rollup, day: datetime, error: Exception
) -> None:
    """This day's refresh failed: it is tried again after a while, longer each time."""
    await connection.execute(_FAILED, rollup.name, day, f"{type(error).__name__}: {error}"[:1000])


async def settle(connection: Connection, queue: Queue, began: datetime) -> None:
    """Keep how far each rollup is: what lies behind `refreshed_at` can be seen in it."""
    names = list(queue.watermarks)
    await connection.execute(_SETTLE, began, names, [queue.watermarks[name] for name in names])


def windows(
    bucket: timedelta, dirty: Window, held: Sequence[Window], now: datetime
) -> list[Window]:
    """Whole closed buckets that hold late events, as few windows as may be.

    Args:
        bucket: the rollup's.
        dirty: the first and last event time of the batches that came since the last pass.
        held: the time ranges of the raw chunks there are, in order. Where raw rows were dropped
            a refresh would erase the rollup's, so none reaches there.
        now: the bucket that holds it is still open.
    """
    first, last = floor_to(bucket, dirty[0]), floor_to(bucket, dirty[1]) + bucket
    last = min(last, floor_to(bucket, now))
    cut = [(max(first, start), min(last, end)) for start, end in held]
    return merged((start, end) for start, end in cut if start < end)


def closed_within(
    bucket: timedelta, span: Window, held: Sequence[Window], now: datetime
) -> list[Window]:
    """Whole closed buckets that hold any moment of [start, end); else as `windows`."""
    return windows(bucket, (span[0], span[1] - _MOMENT), held, now)


def days_of(stretches: Iterable[Window]) -> list[datetime]:
    """The UTC days that hold any of these windows."""
    return list(dict.fromkeys(floor_to(DAY, start) for start, _ in by_day(stretches)))


async def held_windows(connection: Connection, start: datetime, end: datetime) -> list[Window]:
    """Ranges of the raw chunks that hold any of [start, end]."""
    rows = await connection.fetch(_HELD, start, end)
    return [(row["range_start"], row["range_end"]) for row in rows]
