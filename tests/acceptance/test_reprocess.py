"""A bug was in the logic; it is mended, history is made again, and every number is right."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from footfall.simulate import DAY_MS, Shops
from tests.history import differences, everything, ingest, own_world, reprocess

EVENTS = 6_000
BUGS = ["channel", "time", "bots", "verdict"]


@pytest.fixture(scope="module")
def topic(bootstrap: str) -> Iterator[tuple[str, int, dict[str, list[str]]]]:
    """A topic with events of three days, how many, and what they become by today's logic."""
    name = f"history.{uuid.uuid4().hex[:8]}"
    with own_world(bootstrap, name) as world:
        merchants = world.merchants(5)
        now = int(time.time() * 1000)
        shops = Shops(merchants, 3)
        sent = world.write(iter(shops.messages(EVENTS, now - 3 * DAY_MS, now)))
        ingest(world, sent)
        yield name, sent, everything(world)


def days(first: int, last: int) -> list[str]:
    """--from and --to, so many days from today."""
    today = datetime.now(UTC).date()
    return [
        "--from", (today + timedelta(days=first)).isoformat(),
        "--to", (today + timedelta(days=last)).isoformat(),
    ]  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_mended_and_twice_is_the_same(
    bootstrap: str, topic: tuple[str, int, dict[str, list[str]]], bug: str
) -> None:
    name, sent, wanted = topic
    with own_world(bootstrap, name) as world:
        world.merchants(5)
        ingest(world, sent, bug)
        assert differences(everything(world), wanted) != []
        window = [*days(-5, 2), "--misplaced-hours", "2"] if bug == "time" else days(-5, 2)
        first = reprocess(world, "run", *window, "--yes", "--json", "--reason", "a bug")
        assert differences(everything(world), wanted) == []
        assert first["rows_changed"] > 0
        again = reprocess(world, "run", *window, "--yes", "--json")
        assert again["rows_changed"] == 0
        assert differences(everything(world), wanted) == []
