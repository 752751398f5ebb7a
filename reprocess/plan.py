"""What a run would read, replace and refresh, and why it may not: worked out before anything is
touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import asyncpg
import polars as pl

from db import history
from db.history import Offsets
from db.rollups import DAY, HOUR
from db.runs import Slice
from events.partitions import partition_of
from reprocess.settings import ReprocessSettings
from reprocess.topic_log import RefusedError, TopicLog

_PARTS: Final = (1, 2, 3, 4, 6, 8, 12, 24)  # of a day, each a whole number of hours
GUESSED_PER_S: Final = 30_000.0
NOT_AT_ALL: Final = timedelta()

_ROWS: Final = """
SELECT count(*) FROM events WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
   AND ($4::int8 IS NULL OR merchant_id = $4)
"""
_DAYS_OF_LOGIC: Final = """
SELECT day FROM processed_day WHERE kafka_partition = $1 AND logic_version >= $2
"""
_RATE: Final = """
SELECT sum(messages) / extract(epoch FROM max(replaced_at) - min(run.started_at))
  FROM reprocess_slice JOIN reprocess_run AS run USING (run_id)
 WHERE run_id = (SELECT run_id FROM reprocess_run WHERE state = 'done'
                  ORDER BY ended_at DESC LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operator asks for: half-open, UTC."""

    start: datetime
    end: datetime
    merchant_id: int | None = None
    partition: int | None = None
    misplaced: timedelta = NOT_AT_ALL  # how far the old logic may have put events in time
    older_than_logic: int | None = None  # leave out days that this logic or a newer one made


@dataclass(frozen=True, slots=True)
class Planned:
    """One slice and what it takes."""

    shard: int
    slice: Slice
    ranges: tuple[Offsets, ...]
    messages: int
    rows: int


@dataclass(frozen=True, slots=True)
class FileHolds:
    """What one file holds, and how much of it is of the window."""

    path: str
    kind: str  # `archive` or `service log`
    messages: int
    in_window: int
    partitions: tuple[int, ...]
    first: datetime | None  # event time
    last: datetime | None


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """All that a run would do, in the order in which it would do it."""

    asked: Asked
    topic_id: str
    planned: tuple[Planned, ...]
    bytes_a_message: float
    messages_per_s: float
    rate_is_measured: bool
    files: tuple[FileHolds, ...] = ()  # read instead of the log

    @property
    def messages(self) -> int:
        """To be read."""
        return sum(each.messages for each in self.planned)

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return self.messages / self.messages_per_s

    @property
    def hours(self) -> int:
        """Hourly buckets that are refreshed at the most, over all shards."""
        return sum(
            int((each[2] - each[1]) / HOUR)
            for each in {(p.shard, p.slice.start, p.slice.end) for p in self.planned}
        )


async def plan(
    settings: ReprocessSettings, pools: Sequence[asyncpg.Pool], shards: dict[int, int], asked: Asked
) -> ReplayPlan:
    """Work out a run.

    Raises:
        RefusedError: the log does not hold the window any more, or is not what it was.
        KafkaException: the log does not answer.
    """
    partitions = partitions_of(asked, shards)
    log = TopicLog(settings)
    try:
        topic_id = log.topic_id()
        log.check_kept()
        await check_topic(pools, shards, topic_id, partitions, asked)
        planned: list[Planned] = []
        for partition in partitions:
            pool = pools[shards[partition]]
            found = await _slices(settings, pool, partition, asked, topic_id)
            if found:
                for each, ranges, _, _ in found:
                    log.check_held(each, ranges)
            planned += [
                Planned(shards[partition], each, ranges, count, rows)
                for each, ranges, count, rows in found
            ]
        size = log.bytes_a_message(planned[0].slice.partition, planned[0].ranges) if planned else 0
    finally:
        log.close()
    return ReplayPlan(asked, topic_id, in_order(planned), size, *await rate_of(pools))


def in_order(planned: Sequence[Planned]) -> tuple[Planned, ...]:
    """A day after the other."""
    return tuple(sorted(planned, key=lambda each: (each.slice.start, each.slice.partition)))


async def rate_of(pools: Sequence[asyncpg.Pool]) -> tuple[float, bool]:
    """Messages a second, and whether the last run's."""
    rates = [rate for pool in pools if (rate := await pool.fetchval(_RATE))]
    return float(max(rates, default=GUESSED_PER_S)), bool(rates)


async def days_of(
    pool: asyncpg.Pool, partition: int, asked: Asked
) -> list[tuple[datetime, datetime]]:
    """The window in UTC days, without those that the logic asked for has made already."""
    done: set[object] = set()
    if asked.older_than_logic is not None:
        rows = await pool.fetch(_DAYS_OF_LOGIC, partition, asked.older_than_logic)
        done = {row["day"] for row in rows}
    found, start = [], asked.start
    while start < asked.end:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        if start.date() not in done:
            found.append((start, min(midnight, asked.end)))
        start = midnight
    return found


async def rows_now(pool: asyncpg.Pool, part: Slice, merchant_id: int | None) -> int:
    """The events that stand in a slice."""
    values = (part.partition, part.start, part.end, merchant_id)
    found: int = await pool.fetchval(_ROWS, *values)
    return found


def partitions_of(asked: Asked, shards: dict[int, int]) -> list[int]:
    """The partitions that are meant.

    Raises:
        RefusedError: there are none.
    """
    if not shards:
        raise RefusedError("the shard map is empty: run `footfall migrate`")
    partitions = sorted(shards)
    if asked.merchant_id is not None:
        partitions = [partition_of(asked.merchant_id, len(shards))]
    if asked.partition is not None:
        if asked.partition not in shards:
            raise RefusedError(f"there is no partition {asked.partition}: 0 to {max(shards)}")
        if asked.partition not in partitions:
            raise RefusedError(
                f"merchant {asked.merchant_id} is in partition {partitions[0]}, "
                f"not {asked.partition}"
            )
        partitions = [asked.partition]
    return partitions


async def check_topic(
    pools: Sequence[asyncpg.Pool],
    shards: dict[int, int],
    topic_id: str,
    partitions: Sequence[int],
    asked: Asked,
) -> None:
    """All of the window must have come from one topic.

    Raises:
        RefusedError: some of it came from another.
    """
    for number, pool in enumerate(pools):
        here = [partition for partition in partitions if shards[partition] == number]
        others = await history.other_topics(pool, topic_id, here, (asked.start, asked.end))
        if others:
            raise RefusedError(
                f"rows of this window came from another topic of that name (id {others[0]}; today "
                f"{topic_id}): its offsets mean other events. Replay them from an archive: --source"
            )


async def _slices(
    settings: ReprocessSettings, pool: asyncpg.Pool, partition: int, asked: Asked, topic_id: str
) -> list[tuple[Slice, tuple[Offsets, ...], int, int]]:
    """A partition's slices: UTC days, cut into hours where a day is too large for one
    transaction."""
    found = []
    for start, end in await days_of(pool, partition, asked):
        reach = (start - asked.misplaced, end + asked.misplaced)
        lines = await history.lines_of(pool, topic_id, partition, reach, (0, 2**62))
        for low, high in cut(start, end, int(lines["messages"].sum()), settings):
            reaches = pl.col("first_ts") < high + asked.misplaced
            within = lines.filter(reaches & (pl.col("last_ts") >= low - asked.misplaced))
            if not within.is_empty():
                part = Slice(partition, low, high)
                rows = await rows_now(pool, part, asked.merchant_id)
                count = int(within["messages"].sum())
                found.append((part, tuple(history.ranges_of(within)), count, rows))
    return found


def cut(
    start: datetime, end: datetime, messages: int, settings: ReprocessSettings
) -> list[tuple[datetime, datetime]]:
    """A day, or a part of it, in pieces that fit in memory."""
    parts = next((p for p in _PARTS if messages <= p * settings.slice_messages), _PARTS[-1])
    step = DAY / parts
    edges = [start]
    while edges[-1] < end:
        midnight = edges[-1].replace(hour=0, minute=0, second=0, microsecond=0)
        edges.append(min(end, midnight + ((edges[-1] - midnight) // step + 1) * step))
    return list(pairwise(edges))


def window_of(text_from: str, text_to: str) -> tuple[datetime, datetime]:
    """Two dates or RFC 3339 instants, UTC, as instants.

    Raises:
        RefusedError: they cannot be read, or the first is not before the second.
    """
    start, end = _instant(text_from), _instant(text_to)
    if start >= end:
        raise RefusedError("--from must lie before --to: the window is [from, to)")
    return start, end


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(
            f"{text!r} is neither a date (2026-10-01) nor an RFC 3339 instant"
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
