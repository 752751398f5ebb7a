"""A partition moved to another shard: replayed into it, caught up with live, switched, dropped.

Each step is kept where it was done, and can be done again: whatever ends a move, the same command
goes on with it. Until the map is turned the old shard has the last word, from there on the new one.
"""

import asyncio
import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import asyncpg

from db import dropping, moves
from db.moves import Move, MoveError, Standing
from db.refresh import coordinating, take_in
from db.retry import patiently
from reprocess.cascade import cascade
from reprocess.copying import Copy
from reprocess.mover import Mover, check

NEAR: Final = 20_000  # messages that the new shard may be behind when live writes are stopped


async def carry_out(mover: Mover, move: Move) -> None:
    """Go on with a move to its end.

    Raises:
        MoveError, RefusedError: it cannot go on; the old shard still takes live events.
    """
    async with moves.alone(mover.pools[0], move.partition):
        await _carry_out(mover, move)


async def _carry_out(mover: Mover, move: Move) -> None:
    if move.state == "cancelling":
        raise MoveError("this move is being called off: finish that with --cancel")
    if move.state == "copying":
        await _copy_and_switch(mover, move)
        move = replace(move, state="switched")
    since = await moves.seconds_since_switch(mover.pools[0], move)
    await asyncio.sleep(max(0.0, mover.grace_s - since))
    await _drop(mover, move.source, move.partition)
    await moves.mark(mover.pools[0], move, "dropped")


async def call_off(mover: Mover, move: Move) -> None:
    """End a move that has not switched: the old shard goes on, the new one's rows are dropped.

    Raises:
        MoveError: it has switched.
    """
    if move.state == "switched":
        raise MoveError("it has switched already: let it end, then move the partition back")
    catalogue, topic = mover.pools[0], mover.settings.topic
    async with moves.alone(catalogue, move.partition):
        await moves.mark(catalogue, move, "cancelling")
        await moves.close_target(mover.pools[move.target], topic, move)
        await moves.thaw(mover.pools[move.source], topic, move.partition)
        await _drop(mover, move.target, move.partition)
        await moves.mark(catalogue, move, "cancelled")


async def _copy_and_switch(mover: Mover, move: Move) -> None:
    began = time.monotonic()
    if not await _is_released(mover, move):
        try:
            frozen, began = await _bring_over(mover, move)
        except BaseException:
            # Whatever was in the way, live events must not wait for an operator.
            await moves.thaw(mover.pools[move.source], mover.settings.topic, move.partition)
            raise
        new = mover.pools[move.target]
        await patiently(partial(moves.release, new, mover.settings.topic, move, frozen))
        mover.reach("after_release")
    await moves.turn_map(mover.pools[0], move)
    mover.tell(f"switched: live events waited for {time.monotonic() - began:.1f} s")
    mover.reach("after_switch")


async def _bring_over(mover: Mover, move: Move) -> tuple[Standing, float]:
    """Copy all, at last with live writes stopped; where the old shard stands, and since when."""
    old, new, topic = mover.pools[move.source], mover.pools[move.target], mover.settings.topic
    checked = await check(mover, move.partition, move.source, move.target)
    async with contextlib.AsyncExitStack() as opened:
        copy = await Copy.open(mover, move, checked)
        opened.push_async_callback(copy.close)
        await _come_near(mover, move, copy)
        began = time.monotonic()
        frozen = await patiently(partial(moves.freeze, old, topic, move))
        mover.reach("after_freeze")
        await copy.up_to(frozen.next_offset)
        mover.reach("after_catching_up")
        await _refresh(new)
        await _compare(mover, move)
    return frozen, began


async def _is_released(mover: Mover, move: Move) -> bool:
    """Whether only the map is left to be turned."""
    topic = mover.settings.topic
    here = await moves.standing(mover.pools[move.source], topic, move.partition)
    there = await moves.standing(mover.pools[move.target], topic, move.partition)
    frozen = here is not None and here.moved_to == move.target
    return frozen and there is not None and there.moved_to is None


async def _come_near(mover: Mover, move: Move, copy: Copy) -> None:
    """Copy and refresh until what is left takes but a moment."""
    old, topic = mover.pools[move.source], mover.settings.topic
    while True:
        here = await moves.standing(old, topic, move.partition)
        assert here is not None  # noqa: S101 - checked, and nothing deletes it
        await copy.up_to(here.next_offset)
        mover.reach("after_copy")
        await _refresh(mover.pools[move.target])
        now = await moves.standing(old, topic, move.partition)
        if now is None or now.next_offset - copy.position <= NEAR:
            return


async def _compare(mover: Mover, move: Move) -> None:
    """Both shards stand at one offset: they must have read as many messages up to there."""
    here = await moves.covered(mover.pools[move.source], move.partition)
    there = await moves.covered(mover.pools[move.target], move.partition)
    if (here.messages, here.last) != (there.messages, there.last):
        raise MoveError(
            f"partition {move.partition}: the old shard was made of {here.messages} messages up to "
            f"offset {here.last}, the new one of {there.messages} up to {there.last}: the log no "
            "longer holds all of them. The move can be called off: --cancel"
        )


async def _refresh(pool: asyncpg.Pool) -> None:
    async def once() -> None:
        async with coordinating(pool) as connection:
            await take_in(connection)

    await patiently(once)


async def _drop(mover: Mover, shard: int, partition: int) -> None:
    pool = mover.pools[shard]
    for day in await dropping.days_of(pool, partition):
        mover.tell(f"dropping {day} from shard {shard}")
        await dropping.drop_day(pool, partition, day)
        mover.reach("after_dropping_a_day")
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        await cascade(pool, [(start, start + timedelta(days=1))])
        await dropping.forget_day(pool, partition, day)
    mover.reach("after_dropping_days")
    await dropping.drop_the_rest(pool, partition)
    mover.reach("after_drop")
