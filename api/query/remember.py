"""Answers kept as ready bytes, by question, as long as they are true.

An answer is served again for `floor_s` whatever happens, for it says itself how fresh it is, and
the longer the more questions its shard has before it: under load it is asked less, so that no queue
grows. Beyond that an answer is served while its merchant has no new rows (`changes`): then only its
freshness is written anew. The same question asked twice at a time is asked once. What one worker
has made lies on the `shelf` for the others.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

from cachetools import LRUCache

from api.problems import problem
from api.query import written
from api.query.changes import Stand
from api.query.kept import Body, Kept
from api.query.periods import Period
from api.query.shelf import Shelf

MAX_BYTES: Final = 128 << 20
AT_ONCE: Final = 3  # statements of one merchant that run at a time
SCANS_AT_ONCE: Final = 2  # and of those, ones that read raw rows: the others' share of connections
WAITING: Final = 60  # and that may wait for one of those
EASY: Final = 2  # questions at a time that are no load for a shard
LONGEST_S: Final = 15.0  # for which an answer is served whatever happens


def name(question: object) -> bytes:
    """A question's name: the same in every worker."""
    return blake2b(repr(question).encode(), digest_size=16).digest()


@dataclass(slots=True)
class Answers:
    """The answers of one worker process."""

    floor_s: float  # 0: nothing is kept
    shelf: Shelf | None = None
    _kept: LRUCache[bytes, Kept] = field(
        default_factory=lambda: LRUCache(MAX_BYTES, getsizeof=attrgetter("size"))
    )
    _asking: dict[bytes, asyncio.Task[Kept]] = field(default_factory=dict)
    _turns: dict[tuple[int, bool], list[Any]] = field(default_factory=dict)
    _at_work: Counter[int] = field(default_factory=Counter)  # questions before each shard

    async def get(
        self,
        question: bytes,
        shard: int,
        merchant_id: int,
        *,
        stand: Callable[[], Stand | None],
        compute: Callable[[], Awaitable[Body]],
        period: Period | None,
        scans: bool = False,
    ) -> Kept:
        """The answer, kept or made.

        Args:
            question: the `name` of all that the answer depends on, but for the rows.
            shard: the number of the one that is asked.
            stand: where the merchant's rows stand now, as far as is known.
            period: the question's range; None where it moves with the clock.
            scans: whether it reads raw rows.
        """
        if not self.floor_s:
            async with self._turn((merchant_id, scans)):
                return Kept.of(await compute(), None)
        kept = self.held(question, shard, stand(), period)
        if kept is not None:
            return kept
        task = self._asking.get(question)
        if task is None:
            whose = (merchant_id, scans)
            task = asyncio.create_task(self._ask(question, shard, whose, stand(), compute))
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        return await asyncio.shield(task)

    def held(
        self, question: bytes, shard: int, now: Stand | None, period: Period | None
    ) -> Kept | None:
        """The answer, where it is kept, here or on the shelf, and may be served once more."""
        kept = self._kept.get(question)
        if kept is not None and self._is_true(kept, shard, now, period):
            return kept
        kept = self.shelf.get(question) if self.shelf and self.floor_s else None
        if kept is None or not self._is_true(kept, shard, now, period):
            return None
        self._keep(question, kept)
        return kept

    def _is_true(self, kept: Kept, shard: int, now: Stand | None, period: Period | None) -> bool:
        """Whether an answer may be served once more; where it may, it says how fresh it now is."""
        then = kept.stand
        young = time.monotonic() - kept.made_at <= self._young_s(shard)
        if now is None or then is None:
            return young
        if then.is_of_before(now):
            return False
        settled = then.settled or kept.meta["source"] == "raw"
        if period is None or not then.has_all_of(now) or not settled:
            return young
        told = kept.meta["fresh_as_of"]
        if now.applied_until is not None and (
            told is None or now.applied_until > datetime.fromisoformat(told)
        ):
            kept.meta = {
                **kept.meta,
                "fresh_as_of": written.instant(now.applied_until),
                "complete": now.applied_until >= period.end,
            }
        return True

    def _young_s(self, shard: int) -> float:
        """For how long an answer of a shard is served whatever happens."""
        load = max(0, self._at_work[shard] - EASY)
        return max(self.floor_s, min(self.floor_s * (1 + load), LONGEST_S))

    async def _ask(
        self,
        question: bytes,
        shard: int,
        whose: tuple[int, bool],
        stand: Stand | None,
        compute: Callable[[], Awaitable[Body]],
    ) -> Kept:
        async with self._turn(whose):
            self._at_work[shard] += 1
            try:
                kept = Kept.of(await compute(), stand)
            finally:
                self._at_work[shard] -= 1
        self._keep(question, kept)
        if self.shelf:
            self.shelf.put(question, kept)
        return kept

    def _keep(self, question: bytes, kept: Kept) -> None:
        self._kept.pop(question, None)
        if kept.size <= MAX_BYTES // 4:
            self._kept[question] = kept

    @asynccontextmanager
    async def _turn(self, whose: tuple[int, bool]) -> AsyncIterator[None]:
        """One merchant's questions do not take all connections from the others.

        Raises:
            ProblemDetailsException: 429, too many of them wait.
        """
        at_once = SCANS_AT_ONCE if whose[1] else AT_ONCE
        turns = self._turns.setdefault(whose, [asyncio.Semaphore(at_once), 0])
        if turns[1] >= at_once + WAITING:
            raise problem(
                429,
                "too_many_at_once",
                f"{turns[1]} questions of this merchant are being answered: wait for some.",
                headers={"Retry-After": "1"},
            )
        turns[1] += 1
        try:
            async with turns[0]:
                yield
        finally:
            turns[1] -= 1
            if not turns[1]:
                self._turns.pop(whose, None)
