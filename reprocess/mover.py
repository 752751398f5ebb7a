"""What a move works with, and whether it can be done at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from db import moves
from db.moves import Covered, MoveError, Standing
from reprocess.pace import Pace
from reprocess.recount import Logic
from reprocess.settings import ReprocessSettings
from reprocess.topic_log import TopicLog


@dataclass(frozen=True, slots=True)
class Mover:
    """What a move works with.

    `grace_s` is how long the old shard keeps its rows after the switch: longer than any question
    that was begun before. `tell` hears what is done, `reach` the names of the points passed.
    """

    settings: ReprocessSettings
    pools: Sequence[asyncpg.Pool]
    logic: Logic
    pace: Pace
    grace_s: float
    tell: Callable[[str], None] = lambda _: None
    reach: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Checked:
    """What is to be moved, found fit for it."""

    topic_id: str
    first: int  # offset of the log from which the new shard is filled
    standing: Standing
    covered: Covered


async def check(mover: Mover, partition: int, source: int, target: int) -> Checked:
    """Whether the log can make again all that the old shard holds; nothing is changed.

    Raises:
        MoveError, RefusedError: it cannot, or the shards are not as they should be.
    """
    old, topic = mover.pools[source], mover.settings.topic
    found = await moves.standing(old, topic, partition)
    if found is None:
        raise MoveError(f"partition {partition} was never read: run `footfall ingest` first")
    if found.halted_reason is not None:
        raise MoveError(f"partition {partition} is not being read: {found.halted_reason}")
    try:
        await moves.standing(mover.pools[target], topic, partition)
    except asyncpg.UndefinedTableError as error:
        raise MoveError(f"shard {target} has no tables: run `footfall migrate`") from error
    held = await moves.covered(old, partition)
    run = await moves.replacing_run(old, partition)
    if run is not None:
        raise MoveError(f"run {run} replaces rows of partition {partition}: let it finish first")
    if (held.first or 0) < 0 or await moves.has_rows_from_files(old, partition):
        raise MoveError(
            f"partition {partition} holds rows that came from files and are not in the log: "
            "a replay of the log would lose them"
        )
    first = found.next_offset if held.first is None else held.first
    log = TopicLog(mover.settings)
    try:
        _check_log(log, partition, found, held, first)
    finally:
        log.close()
    return Checked(found.topic_id, first, found, held)


def _check_log(log: TopicLog, partition: int, found: Standing, held: Covered, first: int) -> None:
    log.check_kept()
    topic_id = log.topic_id()
    others = {*held.topic_ids, found.topic_id} - {topic_id}
    if others:
        raise MoveError(
            f"the topic was re-created (id {', '.join(sorted(others))} before, {topic_id} now): "
            f"the log no longer holds what partition {partition} was made of"
        )
    low, high = log.bounds(partition)
    if first < low:
        raise MoveError(
            f"partition {partition}: offsets {first} to {low - 1} have left the log, yet the shard "
            "holds what was made of them: it cannot be moved by a replay"
        )
    if found.next_offset > high:
        raise MoveError(
            f"partition {partition}: the log ends at {high}, the shard has read up to "
            f"{found.next_offset}: it was truncated"
        )


async def check_new(mover: Mover, partition: int, source: int, target: int) -> Checked:
    """As `check`, for a move that has yet to begin.

    Raises:
        MoveError, RefusedError: as `check`; or the new shard is not empty of the partition.
    """
    checked = await check(mover, partition, source, target)
    there = await moves.covered(mover.pools[target], partition)
    if there.last is not None:
        raise MoveError(
            f"shard {target} holds rows of partition {partition} already, of which no move knows"
        )
    return checked
