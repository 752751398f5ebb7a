"""Answers that the workers of a machine share."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.query import shelf as shelves
from api.query.changes import Stand
from api.query.kept import Kept
from api.query.periods import Period
from api.query.remember import Answers, name
from api.query.shelf import Shelf

NOON = datetime(2026, 9, 21, 12, tzinfo=UTC)
DAY = Period(datetime(2026, 9, 21, tzinfo=UTC), datetime(2026, 9, 22, tzinfo=UTC), ZoneInfo("UTC"))
QUESTION = name(("how many?", DAY))


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    opened = Shelf(tmp_path / "answers")
    yield opened
    opened.close()


def stand(changed_at: float, polled_at: float, *, settled: bool = True) -> Stand:
    """What a worker knows that noticed a change then, and polled then."""
    return Stand(NOON, (None, NOON, "a halt"), settled, changed_at, polled_at)


def kept(number: int, known: Stand | None = None, size: int = 0) -> Kept:
    """An answer that tells its number."""
    meta = {"fresh_as_of": "2026-09-21T11:00:00Z", "complete": False, "source": "daily"}
    return Kept.of({"rows": [number, "x" * size], "meta": meta}, known)


async def ask(worker: Answers, now: Stand | None) -> tuple[str, str]:
    """The number that a worker answers, `"new"` where it asks the shard, and how fresh that is."""

    async def compute() -> dict[str, Any]:
        meta = {"fresh_as_of": None, "complete": False, "source": "daily"}
        return {"rows": ["new"], "meta": meta}

    told = await worker.get(QUESTION, 0, 1, stand=lambda: now, compute=compute, period=DAY)
    found = "new" if b"new" in told.head else told.head.decode()[9]
    return found, str(told.meta["fresh_as_of"])


def test_an_answer_comes_back_as_it_was(shelf: Shelf) -> None:
    left = kept(1, stand(5, 10))
    shelf.put(QUESTION, left)
    assert shelf.get(QUESTION) == left
    assert shelf.get(name("another")) is None


async def test_a_worker_serves_what_another_made(shelf: Shelf) -> None:
    one, other = Answers(1e-9, shelf), Answers(1e-9, shelf)
    assert (await ask(one, stand(5, 10)))[0] == "new"
    shelf.put(QUESTION, kept(2, stand(5, 10)))  # as if a third had made it
    # the first to ask for it takes it down, and says how fresh it is by its own poll
    assert await ask(other, stand(6, 12)) == ("2", "2026-09-21T12:00:00Z")


@pytest.mark.parametrize(
    ("made", "now"),
    [
        (stand(5, 10), stand(10.1, 9.9)),  # noticed by the other after the maker's poll began
        (stand(5, 10), stand(30, 29)),  # noticed since
        (stand(5, 10, settled=False), stand(6, 12)),  # a late event was not in the rollups then
        (stand(5, 10), None),  # the other has not polled
        (None, stand(6, 12)),  # the maker had not
    ],
)
async def test_what_another_made_is_not_served_where_it_may_be_old(
    shelf: Shelf, made: Stand | None, now: Stand | None
) -> None:
    shelf.put(QUESTION, kept(1, made))
    assert (await ask(Answers(1e-9, shelf), now))[0] == "new"


async def test_a_young_answer_is_served_to_all_workers(shelf: Shelf) -> None:
    shelf.put(QUESTION, kept(1, stand(5, 10)))
    # and says no more of its freshness than it did
    assert await ask(Answers(60, shelf), stand(30, 29)) == ("1", "2026-09-21T11:00:00Z")


def test_a_full_shelf_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "BYTES", 1 << 20)
    small = Shelf(tmp_path / "small")
    for number in range(400):
        small.put(name(number), kept(number, size=10_000))
        assert small.get(name(number)) is not None
    held = [number for number in range(400) if small.get(name(number))]
    assert 0 < len(held) < 60
    assert held == list(range(held[0], 400))
    small.close()


def test_an_answer_larger_than_the_shelf_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "BYTES", 1 << 20)
    small = Shelf(tmp_path / "small")
    small.put(QUESTION, kept(1, size=2 << 20))
    assert small.get(QUESTION) is None
    small.put(QUESTION, kept(2))
    assert small.get(QUESTION) is not None
    small.close()
