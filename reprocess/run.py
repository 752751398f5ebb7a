"""A run from its plan to its end: slices in order of time, partitions beside each other, rollups
behind the rows. Every step is kept in the shards, so that it can be taken up again anywhere."""

import asyncio
import contextlib
import getpass
import itertools
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import asyncpg
import structlog

from db import runs
from db.pools import borrowed
from db.retry import patiently
from db.runs import Done, Run, Slice
from db.windows import merged
from reprocess.ahead import one_ahead
from reprocess.cascade import cascade
from reprocess.look import Read
from reprocess.pace import stand_back
from reprocess.plan import Asked, ReplayPlan
from reprocess.replace import (
    Ahead,
    DoneElsewhereError,
    HeldBackError,
    Turn,
    read_slice,
    replace_slice,
)
from reprocess.settings import ReprocessSettings
from reprocess.source import Source
from reprocess.work import Work

log = structlog.get_logger(__name__)

RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
OpenSource = Callable[[], Source]


class Readers(NamedTuple):
    """Of one partition: what reads the next slice while one is replaced, and what that one's late
    events are read by meanwhile."""

    ahead: Source
    late: Source


class Progress(Protocol):
    """Told what happens, for a person to see."""

    def read(self, messages: int) -> None: ...

    def replaced(self, part: Slice, done: Done) -> None: ...

    def refreshed(self, part: Slice) -> None: ...


@dataclass(slots=True)
class Ended:
    """How a run, or a part of it, came out."""

    done: list[Slice] = field(default_factory=list)
    held: dict[Slice, str] = field(default_factory=dict)


def new_run(plan: ReplayPlan, settings: ReprocessSettings, logic_version: int, **how: Any) -> Run:
    """A run of a plan. `how`: max_change, sources, reason."""
    asked: Asked = plan.asked
    return Run(
        run_id=str(uuid.uuid4()),
        topic=settings.topic,
        topic_id=plan.topic_id,
        window_start=asked.start,
        window_end=asked.end,
        merchant_id=asked.merchant_id,
        logic_version=logic_version,
        max_change=how.get("max_change"),
        misplaced=plan.asked.misplaced,
        sources=tuple(how.get("sources", ())),
        started_by=getpass.getuser(),
        reason=how.get("reason", ""),
    )


async def begin(pools: Sequence[asyncpg.Pool], run: Run, plan: ReplayPlan) -> None:
    """Keep the run in every shard that has a part of it.

    Raises:
        runs.OverlapError: another run has yet to finish some of these slices; nothing is kept.
    """
    begun: list[int] = []
    try:
        for shard, group in itertools.groupby(
            sorted(plan.planned, key=lambda each: each.shard), key=lambda each: each.shard
        ):
            async with borrowed(pools[shard]) as connection:
                await runs.create(connection, run, [each.slice for each in group])
            begun.append(shard)
    except BaseException:
        for shard in begun:
            await runs.cancel(pools[shard], run.run_id)
            await runs.end(pools[shard], run.run_id, "cancelled")
        raise


async def carry_out(
    pools: Sequence[asyncpg.Pool],
    settings: ReprocessSettings,
    work: Work,
    open_source: OpenSource,
    progress: Progress,
) -> Ended:
    """Go on with a run until nothing of it is left, or a slice is held back.

    Raises:
        Exception: what a slice could not be replaced for; the run can be resumed.
    """
    ended = Ended()
    async with contextlib.AsyncExitStack() as opened:
        readers: asyncio.Queue[Readers] = asyncio.Queue()
        for _ in range(settings.parallel):
            pair = Readers(open_source(), open_source())
            for source in pair:
                opened.push_async_callback(source.close)
            readers.put_nowait(pair)
        for pool in pools:
            await _ShardRun(pool, settings, work, readers, progress, ended).carry_out()
            if ended.held:
                break
            await runs.end(pool, work.run.run_id, "done")
            work.reach("after_end")
    return ended


@dataclass(frozen=True, slots=True)
class _ShardRun:
    """One shard's slices of a run."""

    pool: asyncpg.Pool
    settings: ReprocessSettings
    work: Work
    readers: "asyncio.Queue[Readers]"
    progress: Progress
    ended: Ended

    async def carry_out(self) -> None:
        """A day at a time; the rollups of a day are made while the next is read."""
        behind: asyncio.Task[None] | None = None
        try:
            for day in await self._days():
                await stand_back(self.pool, self.settings.topic, self.settings.max_lag_s)
                await _all([self._replace(parts) for parts in _by_partition(day)])
                if behind is not None:
                    await behind
                behind = asyncio.create_task(self._follow(day))
                if self.ended.held:
                    break
            if behind is not None:
                await behind
        except BaseException:
            if behind is not None:
                behind.cancel()
            raise

    async def _days(self) -> list[list[Slice]]:
        """What is left, a list for each day."""
        left = [
            part
            for part in await runs.slices_of(self.pool, self.work.run.run_id)
            if part.state in ("pending", "held", "replaced")
        ]
        left.sort(key=lambda part: (part.start, part.partition))
        return [list(group) for _, group in itertools.groupby(left, lambda p: p.start.date())]

    async def _replace(self, parts: list[Slice]) -> None:
        """One partition's slices of a day, one after the other: they share its orders."""
        left = [part for part in parts if part.state != "replaced"]
        readers = await self.readers.get()
        read = _ReadInOrder(self.pool, readers.ahead, self.work, _until(left))
        turn = Turn()
        try:
            async with contextlib.aclosing(one_ahead(left, read, RETRY_S)) as slices:
                async for ahead in slices:
                    if self.ended.held:
                        return
                    await self._put_in_place(ahead, readers.late, turn)
        finally:
            self.readers.put_nowait(readers)

    async def _put_in_place(self, ahead: Ahead, late: Source, turn: Turn) -> None:
        part = ahead.slice
        try:
            replacing = partial(replace_slice, self.pool, late, self.work, ahead, turn)
            done = await patiently(replacing, RETRY_S)
        except HeldBackError as held:
            await runs.hold(self.pool, self.work.run.run_id, part, str(held))
            self.ended.held[part] = str(held)
        except DoneElsewhereError:
            log.warning("done_elsewhere", partition=part.partition, start=str(part.start))
        else:
            self.progress.replaced(part, done)

    async def _follow(self, day: list[Slice]) -> None:
        """The rollups of a day's slices that were replaced, by this process or another."""
        run_id = self.work.run.run_id
        mine = {(part.partition, part.start) for part in day}
        behind = [
            part
            for part in await runs.slices_of(self.pool, run_id)
            if part.state == "replaced" and (part.partition, part.start) in mine
        ]
        if not behind:
            return
        hours = [
            hour for part in behind for hour in await runs.changed_hours(self.pool, run_id, part)
        ]
        await cascade(self.pool, merged(hours), self.work.reach)
        self.work.reach("before_done")
        for part in behind:
            await runs.mark_done(self.pool, run_id, part)
            self.ended.done.append(part)
            self.progress.refreshed(part)
        self.work.reach("after_done")


@dataclass(slots=True)
class _ReadInOrder:
    """Reads one partition's slices in order of time, what they share but once."""

    pool: asyncpg.Pool
    source: Source
    work: Work
    until: dict[Slice, datetime]
    before: Read | None = None

    async def __call__(self, part: Slice) -> Ahead:
        """The slice, and what belongs to the next one kept for that."""
        ahead = await read_slice(
            self.pool, self.source, self.work, part, until=self.until[part], before=self.before
        )
        self.before = ahead.read
        return ahead


def _until(parts: list[Slice]) -> dict[Slice, datetime]:
    """The end of the slice that follows each, or its own where none does."""
    following = itertools.zip_longest(parts, parts[1:])
    return {
        part: after.end if after is not None and after.start == part.end else part.end
        for part, after in following
    }


def _by_partition(day: list[Slice]) -> list[list[Slice]]:
    """Each partition's slices in order; the largest partitions, which are cut most, begin."""
    ordered = sorted(day, key=lambda part: (part.partition, part.start))
    chains = [list(group) for _, group in itertools.groupby(ordered, lambda p: p.partition)]
    return sorted(chains, key=len, reverse=True)


async def _all(chains: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of them; the first that fails ends the others."""
    tasks = [asyncio.create_task(chain) for chain in chains]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
