"""What a run from files would do, and why it may not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from db import history
from db.runs import Slice
from reprocess.file_source import lacking, uncovered
from reprocess.plan import (
    NOT_AT_ALL,
    Asked,
    Planned,
    ReplayPlan,
    check_topic,
    cut,
    days_of,
    in_order,
    partitions_of,
    rate_of,
    rows_now,
)
from reprocess.read_files import Told, Within
from reprocess.settings import ReprocessSettings
from reprocess.spool import Spool, count_within, mean_bytes, ranges_within
from reprocess.topic_log import RefusedError, TopicLog

_HOURS: Final = """
SELECT extract(epoch FROM date_trunc('hour', ts, 'UTC'))::int8 / 3600 AS hour, count(*) AS events
  FROM events WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
   AND ($4::int8 IS NULL OR merchant_id = $4) GROUP BY 1 ORDER BY 1
"""
_MERCHANTS: Final = """
SELECT array_agg(DISTINCT merchant_id) FROM events
 WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
"""
_TOPICS: Final = """
SELECT DISTINCT topic_id FROM ingest_batch
 WHERE kafka_partition = ANY ($1) AND first_ts < $3 AND last_ts >= $2
"""
_NAMED: Final = 5  # merchants that a refusal names


@dataclass(frozen=True, slots=True)
class Files:
    """What was read, and where it lies."""

    spool: Spool
    told: Told


def within(settings: ReprocessSettings, shards: dict[int, int], asked: Asked) -> Within:
    """What to look for in files.

    Raises:
        RefusedError: the partition or merchant asked for cannot be.
    """
    return Within(
        len(shards),
        frozenset(partitions_of(asked, shards)),
        _ms(asked.start - asked.misplaced),
        _ms(asked.end + asked.misplaced),
        settings.limits,
        asked.merchant_id,
    )


async def plan_from_files(
    settings: ReprocessSettings,
    pools: Sequence[asyncpg.Pool],
    shards: dict[int, int],
    asked: Asked,
    files: Files,
) -> ReplayPlan:
    """Work out a run whose messages come from files.

    Raises:
        RefusedError: the files hold nothing of the window, or less than what stands there.
        KafkaException: the log does not answer.
    """
    told = files.told
    _check_files(told, asked)
    partitions = partitions_of(asked, shards)
    log = TopicLog(settings)
    try:
        today = log.topic_id()
        there = await _topics_there(pools, shards, partitions, asked)
        topic_id = topic_id_of(told, settings.topic, today, there)
        if told.are_archives:
            await check_topic(pools, shards, topic_id, partitions, asked)
            if topic_id == today:
                for partition in partitions:
                    pool = pools[shards[partition]]
                    await _check_read(log, pool, settings.topic, partition, files.spool)
    finally:
        log.close()
    planned: list[Planned] = []
    connection = files.spool.connect()
    try:
        for partition in partitions:
            pool = pools[shards[partition]]
            if asked.misplaced == NOT_AT_ALL:
                await _check_hours(pool, partition, asked, files.spool.hours(connection, partition))
            await _check_merchants(pool, partition, asked, told)
            for start, end in await days_of(pool, partition, asked):
                held = count_within(connection, partition, (start, end))
                for part in _slices(partition, start, end, held, settings):
                    reach = (part.start - asked.misplaced, part.end + asked.misplaced)
                    if told.are_archives:
                        await _check_lines(pool, topic_id, part, reach, told)
                    ranges = tuple(ranges_within(connection, partition, reach))
                    count = count_within(connection, partition, reach)
                    rows = await rows_now(pool, part, asked.merchant_id)
                    planned.append(Planned(shards[partition], part, ranges, count, rows))
        size = mean_bytes(connection)
    finally:
        connection.close()
    rate = await rate_of(pools)
    return ReplayPlan(asked, topic_id, in_order(planned), size, *rate, tuple(told.files))


def _slices(
    partition: int, start: datetime, end: datetime, held: int, settings: ReprocessSettings
) -> list[Slice]:
    """A day's slices, all of them or, where the files hold nothing of the day, none."""
    if held == 0:
        return []
    return [Slice(partition, low, high) for low, high in cut(start, end, held, settings)]


def _check_files(told: Told, asked: Asked) -> None:
    if sum(each.in_window for each in told.files) == 0:
        held = "; ".join(
            f"{each.path}: {each.messages:,} messages"
            + (f", {each.first:%Y-%m-%d %H:%M} to {each.last:%Y-%m-%d %H:%M}" if each.first else "")
            for each in told.files
        )
        raise RefusedError(f"the files hold nothing of what was asked for ({held})")
    merchants = set().union(*told.merchants.values())
    if asked.merchant_id is not None and asked.merchant_id not in merchants:
        raise RefusedError(f"the files hold no event of merchant {asked.merchant_id} in the window")


async def _topics_there(
    pools: Sequence[asyncpg.Pool],
    shards: dict[int, int],
    partitions: Sequence[int],
    asked: Asked,
) -> set[str]:
    found: set[str] = set()
    for number, pool in enumerate(pools):
        here = [partition for partition in partitions if shards[partition] == number]
        rows = await pool.fetch(_TOPICS, here, asked.start, asked.end)
        found |= {row["topic_id"] for row in rows}
    return found


def topic_id_of(told: Told, topic: str, today: str, there: set[str]) -> str:
    """Under which topic's id a window is kept: the archive's, or that of the rows there now.

    Raises:
        RefusedError: the archive is another topic's, or the rows are of several.
    """
    if told.are_archives:
        origin = told.origins[0]
        if origin.topic != topic:
            raise RefusedError(f"the archive is of topic {origin.topic}, not of {topic}")
        return origin.topic_id
    if len(there) > 1:
        raise RefusedError(
            "rows of this window came from several topics of that name: replay a window of one "
            "of them at a time"
        )
    return next(iter(there), today)


async def _check_read(
    log: TopicLog, pool: asyncpg.Pool, topic: str, partition: int, spool: Spool
) -> None:
    """What live ingest has yet to read is its own: from files it would count twice."""
    end, (low, _) = spool.ends.get(partition, 0), log.bounds(partition)
    upto = max(await history.next_offset(pool, topic, partition) or 0, low)
    if end > upto:
        raise RefusedError(
            f"partition {partition}: the files hold offsets {upto} to {end - 1}, which the log "
            "still holds and no ingester has read: run `footfall ingest` first"
        )


async def _check_lines(
    pool: asyncpg.Pool, topic_id: str, part: Slice, reach: tuple[datetime, datetime], told: Told
) -> None:
    lines = await history.lines_of(pool, topic_id, part.partition, reach, (0, 2**62))
    missing = uncovered(lines, told.covered(part.partition))
    if missing:
        raise RefusedError(lacking(part.partition, missing))


async def _check_hours(
    pool: asyncpg.Pool, partition: int, asked: Asked, held: dict[int, int]
) -> None:
    """Files that hold nothing of an hour in which rows stand are not the whole of the window."""
    values = (partition, asked.start, asked.end, asked.merchant_id)
    for row in await pool.fetch(_HOURS, *values):
        if row["hour"] not in held:
            hour = datetime.fromtimestamp(row["hour"] * 3600, UTC)
            raise RefusedError(
                f"partition {partition}, {hour:%Y-%m-%d %H:%M}: {row['events']:,} events stand in "
                "that hour, and the files hold none: give all files of the window, or a window "
                "that they hold"
            )


async def _check_merchants(pool: asyncpg.Pool, partition: int, asked: Asked, told: Told) -> None:
    """Files that know nothing of a merchant who has rows would leave it with none."""
    if asked.merchant_id is not None:
        return
    standing = await pool.fetchval(_MERCHANTS, partition, asked.start, asked.end)
    unknown = sorted(set(standing or []) - told.merchants.get(partition, set()))
    if unknown:
        named = ", ".join(map(str, unknown[:_NAMED])) + (" …" if len(unknown) > _NAMED else "")
        raise RefusedError(
            f"partition {partition}: {len(unknown)} merchants have events in the window and the "
            f"files hold none of theirs ({named}): give files of all of them, or --merchant"
        )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
