"""When an answer may be served again, and what it then says of itself."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from litestar.plugins.problem_details import ProblemDetailsException

from api.query import remember
from api.query.changes import Stand
from api.query.periods import Period
from api.query.remember import Answers

NOON = datetime(2026, 9, 21, 12, tzinfo=UTC)
DAY = Period(NOON - timedelta(hours=12), NOON + timedelta(minutes=1), ZoneInfo("UTC"))


def stand(
    minutes: int = 0, *, changed: bool = False, settled: bool = True, version: str = ""
) -> Stand:
    """Where a merchant's rows stand; they have changed since the poll at 10, or not."""
    noticed_at = 11.0 if changed else 5.0
    return Stand(NOON + timedelta(minutes=minutes), (version,), settled, noticed_at, 10.0)


class Shard:
    """A shard that counts how often it is asked."""

    def __init__(self, source: str = "daily") -> None:
        self.asked = 0
        self.source = source

    async def answer(self) -> dict[str, Any]:
        self.asked += 1
        as_of = "2026-09-21T12:00:00Z"
        meta = {"fresh_as_of": as_of, "complete": False, "source": self.source}
        return {"rows": [self.asked], "meta": meta}


async def ask(
    answers: Answers, shard: Shard, now: Stand | None, period: Period | None = DAY
) -> dict[str, Any]:
    kept = await answers.get(
        b"question", 0, 1, stand=lambda: now, compute=shard.answer, period=period
    )
    return dict(msgspec.json.decode(kept.body))


async def test_it_is_served_while_nothing_changes_and_says_how_fresh_it_is() -> None:
    answers, shard = Answers(1e-9), Shard()
    await ask(answers, shard, stand())
    told = await ask(answers, shard, stand(minutes=2))
    assert told["rows"] == [1]
    assert told["meta"]["fresh_as_of"] == "2026-09-21T12:02:00Z"
    assert told["meta"]["complete"] is True


@pytest.mark.parametrize(
    ("then", "now", "period"),
    [
        (stand(), stand(changed=True), DAY),  # the merchant has new rows
        (stand(), stand(version="replaced"), DAY),  # history was replaced
        (stand(settled=False), stand(), DAY),  # a late event was not in the rollups then
        (stand(), None, DAY),  # nothing is known of the shard
        (None, stand(), DAY),
        (stand(), stand(), None),  # the question is of the clock
    ],
)
async def test_it_is_asked_anew_where_it_may_have_changed(
    then: Stand | None, now: Stand | None, period: Period | None
) -> None:
    answers, shard = Answers(1e-9), Shard()
    await ask(answers, shard, then, period)
    assert (await ask(answers, shard, now, period))["rows"] == [2]


async def test_a_young_answer_is_served_unless_history_was_replaced() -> None:
    answers, shard = Answers(60), Shard()
    await ask(answers, shard, stand())
    told = await ask(answers, shard, stand(minutes=5, changed=True))
    assert told["rows"] == [1]
    assert told["meta"]["fresh_as_of"] == "2026-09-21T12:00:00Z"  # it is no fresher than it was
    assert (await ask(answers, shard, stand(version="replaced")))["rows"] == [2]


async def test_a_young_answer_of_before_a_partition_left_and_returned_is_not_served() -> None:
    answers, shard = Answers(60), Shard()
    await ask(answers, shard, stand())
    returned = replace(stand(minutes=1, changed=True), polled_at=12.0, elsewhere_at=12.0)
    assert (await ask(answers, shard, returned))["rows"] == [2]
    assert (await ask(answers, shard, returned))["rows"] == [2]


@pytest.mark.parametrize(
    ("at_work", "age", "rows"),
    [(2, 0.5, 1), (2, 2.1, 2), (4, 3.0, 1), (4, 6.1, 2), (40, 10.0, 1), (40, 15.1, 2)],
)
async def test_under_load_an_answer_is_served_for_longer(
    at_work: int, age: float, rows: int
) -> None:
    answers, shard = Answers(2), Shard()
    await ask(answers, shard, stand())
    grow_older(answers, age)
    async with at_work_on(answers, 0, at_work):
        told = await ask(answers, shard, stand(minutes=5, changed=True))
    assert told["rows"] == [rows]


async def test_load_on_one_shard_makes_no_answer_of_another_older() -> None:
    answers, shard = Answers(2), Shard()
    await ask(answers, shard, stand())
    grow_older(answers, 3)
    async with at_work_on(answers, 1, 40):
        told = await ask(answers, shard, stand(changed=True))
    assert told["rows"] == [2]


def grow_older(answers: Answers, seconds: float) -> None:
    """As if the answer had been made so long ago."""
    kept = answers.held(b"question", 0, stand(), DAY)
    assert kept is not None
    kept.made_at -= seconds


@asynccontextmanager
async def at_work_on(answers: Answers, shard: int, count: int) -> AsyncIterator[None]:
    """While a shard has so many questions of as many merchants before it."""
    all_ask, ends = asyncio.Event(), asyncio.Event()
    asking = itertools.count(1)

    async def slow() -> dict[str, Any]:
        if next(asking) == count:
            all_ask.set()
        await ends.wait()
        return {"rows": [], "meta": {"source": "raw"}}

    async with asyncio.TaskGroup() as others:
        for number in range(count):
            asked = answers.get(
                b"%d" % number, shard, number, stand=stand, compute=slow, period=DAY
            )
            others.create_task(asked)
        await all_ask.wait()
        yield
        ends.set()


async def test_raw_rows_need_no_refresh() -> None:
    answers, shard = Answers(1e-9), Shard("raw")
    await ask(answers, shard, stand(settled=False))
    assert (await ask(answers, shard, stand(settled=False)))["rows"] == [1]


async def test_nothing_is_kept_where_the_time_is_none() -> None:
    answers, shard = Answers(0), Shard()
    await ask(answers, shard, stand())
    assert (await ask(answers, shard, stand()))["rows"] == [2]


async def test_the_same_question_at_a_time_is_asked_once() -> None:
    answers, shard = Answers(60), Shard()
    told = await asyncio.gather(*(ask(answers, shard, stand()) for _ in range(20)))
    assert {each["rows"][0] for each in told} == {1}


async def test_old_answers_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remember, "MAX_BYTES", 40)
    answers, shard = Answers(60), Shard()
    for question in (b"a", b"b", b"c", b"d", b"a"):
        await answers.get(question, 0, 1, stand=stand, compute=shard.answer, period=DAY)
    assert shard.asked == 5


async def test_one_merchant_does_not_take_every_turn() -> None:
    answers = Answers(60)
    running = most = 0

    async def slow() -> dict[str, Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return {"rows": [], "meta": {"source": "raw"}}

    async def one(number: int) -> str:
        try:
            await answers.get(b"%d" % number, 0, 1, stand=stand, compute=slow, period=DAY)
        except ProblemDetailsException as refused:
            assert isinstance(refused.extra, dict)
            return str(refused.extra["code"])
        return "answered"

    told = await asyncio.gather(*(one(number) for number in range(100)))
    assert most == remember.AT_ONCE
    assert told.count("answered") == remember.AT_ONCE + remember.WAITING
    assert set(told) == {"answered", "too_many_at_once"}


async def test_questions_of_raw_rows_leave_connections_to_other_merchants() -> None:
    answers = Answers(60)
    running: dict[int, int] = {1: 0, 2: 0}
    most = 0
    held_up = asyncio.Event()

    async def slow(merchant: int) -> dict[str, Any]:
        nonlocal most
        running[merchant] += 1
        most = max(most, running[1])
        if merchant == 1:
            await held_up.wait()
        running[merchant] -= 1
        return {"rows": [], "meta": {"source": "raw"}}

    async def one(merchant: int, number: int) -> None:
        await answers.get(
            b"%d %d" % (merchant, number),
            0,
            merchant,
            stand=stand,
            compute=lambda: slow(merchant),
            period=DAY,
            scans=True,
        )

    busy = [asyncio.create_task(one(1, number)) for number in range(5)]
    await asyncio.sleep(0)
    await asyncio.wait_for(one(2, 0), 5)  # while the first merchant's are all held up
    assert most == remember.SCANS_AT_ONCE < 4  # a worker's connections for scans
    held_up.set()
    await asyncio.gather(*busy)
