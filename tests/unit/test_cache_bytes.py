"""Caches are bounded by the bytes that they really take."""

import tracemalloc
from datetime import UTC, datetime

from api.query import remember
from api.query.changes import Stand
from api.query.kept import Kept
from api.query.remember import Answers, name

NOON = datetime(2026, 9, 21, 12, tzinfo=UTC)


def an_answer(number: int, rows: int) -> Kept:
    """As the engine makes it."""
    body = {
        "rows": [{"page": f"/p/{number}/{row}", "events": number + row} for row in range(rows)],
        "meta": {
            "fresh_as_of": f"2026-09-21T12:00:{number % 60:02}Z",
            "complete": False,
            "source": "daily",
            "approximate": {"visitors": {"method": "hll", "relative_error": 0.0163}},
            "logic_version": 2,
            "truncated": False,
            "warnings": [f"Nothing of {number} in this range matches the filters."],
        },
    }
    version = (None, NOON, None, NOON, None)
    return Kept.of(body, Stand(NOON, version, True, float(number), float(number)))


def test_an_answers_size_is_what_it_takes() -> None:
    for rows in (1, 10, 200):
        answers = Answers(2.0)
        answers._keep(name("first"), an_answer(0, rows))
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(2_000):
                answers._keep(name((number, rows)), an_answer(number, rows))
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        counted = answers._kept.currsize
        assert 0.6 < taken / counted < 1.2, (rows, taken, counted)


def test_the_oldest_answers_make_room() -> None:
    answers = Answers(2.0)
    each = an_answer(0, 1_000).size
    count = remember.MAX_BYTES // each + 50
    for number in range(count):
        answers._keep(name(number), an_answer(number, 1_000))
    assert answers._kept.currsize <= remember.MAX_BYTES
    assert name(0) not in answers._kept
    assert name(count - 1) in answers._kept
