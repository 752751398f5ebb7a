"""Answers kept as ready bytes, by question, as long as they are true.

An answer is served again for `floor_s` whatever happens, for it says itself how fresh it is; and
beyond that while its merchant has no new rows (`changes`): then only its freshness is written anew.
The same question asked twice at a time is asked once.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec

from api.problems import problem
from api.query import written
from api.query.changes import Stand
from api.query.periods import Period

MAX_BYTES: Final = 128 << 20
AT_ONCE: Final = 4  # statements of one merchant that run at a time
WAITING: Final = 60  # and that may wait for one of those

Body = dict[str, Any]


@dataclass(slots=True)
class Kept:
    """An answer as bytes, but for what it says of itself."""

    head: bytes  # the body up to its meta
    meta: dict[str, Any]
    etag: str
    made_at: float
    stand: Stand | None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the body."""
        return {
            "ETag": self.etag,
            "Cache-Control": "private, no-cache",
            "Footfall-Fresh-As-Of": self.meta["fresh_as_of"] or "",
            "Vary": "Accept, Authorization",
        }

    def is_known(self, if_none_match: str) -> bool:
        """Whether the asker has it already, by the header of that name."""
        known = [each.strip() for each in if_none_match.split(",")]
        return self.etag in known or known == ["*"]

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b'%b,"meta":%b}' % (self.head, msgspec.json.encode(self.meta))


@dataclass(slots=True)
class Answers:
    """The answers of one worker process."""

    floor_s: float  # 0: nothing is kept
    _kept: OrderedDict[Hashable, Kept] = field(default_factory=OrderedDict)
    _asking: dict[Hashable, asyncio.Task[Kept]] = field(default_factory=dict)
    _turns: dict[int, list[Any]] = field(default_factory=dict)
    _bytes: int = 0

    async def get(
        self,
        question: Hashable,
        merchant_id: int,
        stand: Callable[[], Stand | None],
        compute: Callable[[], Awaitable[Body]],
        period: Period | None,
    ) -> Kept:
        """The answer, kept or made.

        Args:
            question: all that the answer depends on, but for the rows.
            stand: where the merchant's rows stand now, as far as is known.
            period: the question's range; None where it moves with the clock.
        """
        if not self.floor_s:
            async with self._turn(merchant_id):
                return _keep(await compute(), None)
        kept = self.held(question, stand(), period)
        if kept is not None:
            return kept
        task = self._asking.get(question)
        if task is None:
            task = asyncio.create_task(self._ask(question, merchant_id, stand(), compute))
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question, None))
        return await asyncio.shield(task)

    def held(self, question: Hashable, now: Stand | None, period: Period | None) -> Kept | None:
        """The answer, where it is kept and may be served once more."""
        kept = self._kept.get(question)
        if kept is None or not self._is_true(kept, now, period):
            return None
        self._kept.move_to_end(question)
        return kept

    def _is_true(self, kept: Kept, now: Stand | None, period: Period | None) -> bool:
        """Whether an answer may be served once more; where it may, it says how fresh it now is."""
        then = kept.stand
        young = time.monotonic() - kept.made_at <= self.floor_s
        if now is None or then is None:
            return young
        if now.version != then.version:
            return False
        settled = then.settled or kept.meta["source"] == "raw"
        if period is None or now.number != then.number or not settled:
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

    async def _ask(
        self,
        question: Hashable,
        merchant_id: int,
        stand: Stand | None,
        compute: Callable[[], Awaitable[Body]],
    ) -> Kept:
        async with self._turn(merchant_id):
            kept = _keep(await compute(), stand)
        old = self._kept.pop(question, None)
        self._bytes += len(kept.head) - (len(old.head) if old else 0)
        self._kept[question] = kept
        while self._bytes > MAX_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.head)
        return kept

    @asynccontextmanager
    async def _turn(self, merchant_id: int) -> AsyncIterator[None]:
        """One merchant's questions do not take all connections from the others.

        Raises:
            ProblemDetailsException: 429, too many of them wait.
        """
        turns = self._turns.setdefault(merchant_id, [asyncio.Semaphore(AT_ONCE), 0])
        if turns[1] >= AT_ONCE + WAITING:
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
                self._turns.pop(merchant_id, None)


def _keep(body: Body, stand: Stand | None) -> Kept:
    meta = body.pop("meta")
    head = msgspec.json.encode(body)[:-1]
    # weak: the numbers are the same, what is said of their freshness may differ
    etag = f'W/"{blake2b(head, digest_size=12).hexdigest()}"'
    return Kept(head, meta, etag, time.monotonic(), stand)
