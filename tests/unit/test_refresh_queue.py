"""In which order a pass refreshes what is queued."""

from datetime import UTC, datetime, timedelta

from db.refresh_queue import Queue, days_of
from db.rollups import BY_NAME, ROLLUPS

DAY = timedelta(days=1)
TODAY = datetime(2026, 9, 20, tzinfo=UTC)
HOURLY, DAILY = BY_NAME["traffic_hourly"], BY_NAME["traffic_daily"]


def queue(watermark: datetime | None = TODAY, **days: list[int]) -> Queue:
    """A queue of the rollups' days, so many before today; all were queued at once."""
    since = {
        name: {TODAY - number * DAY: TODAY for number in numbers} for name, numbers in days.items()
    }
    return Queue(TODAY - DAY, {rollup.name: watermark for rollup in ROLLUPS}, since)


def order(queued: Queue, span: int = 1) -> list[tuple[str, list[int]]]:
    """All runs in the order in which they would be refreshed."""
    found = []
    while run := queued.next_run(span):
        rollup, days = run
        found.append((rollup.name, [(TODAY - day).days for day in days]))
        queued.remove(rollup, days, days[-1] + DAY)
    return found


def test_recent_days_come_first_for_every_rollup() -> None:
    queued = queue(traffic_hourly=[1, 5, 9], source_hourly=[1, 2])
    assert order(queued)[:2] == [("traffic_hourly", [1]), ("source_hourly", [1])]


def test_a_daily_rollup_waits_for_the_same_day_of_its_source() -> None:
    queued = queue(traffic_hourly=[1], traffic_daily=[1])
    assert order(queued) == [("traffic_hourly", [1]), ("traffic_daily", [1])]
    queued = queue(traffic_hourly=[1, 2], traffic_daily=[1, 2])
    queued.wait(HOURLY, [TODAY - DAY])  # it failed
    assert order(queued) == [("traffic_hourly", [2]), ("traffic_daily", [2])]


def test_older_days_are_taken_in_the_order_in_which_they_were_queued() -> None:
    """Else those that are queued again and again would keep the oldest from their turn."""
    queued = queue(traffic_hourly=[3, 4, 300])
    queued.since["traffic_hourly"][TODAY - 300 * DAY] = TODAY - DAY
    assert order(queued) == [("traffic_hourly", [n]) for n in (300, 3, 4)]


def test_what_questions_cannot_see_comes_before_what_they_see() -> None:
    queued = queue(traffic_hourly=[5], source_hourly=[30])
    queued.watermarks["traffic_hourly"] = TODAY - 10 * DAY
    assert order(queued) == [("source_hourly", [30]), ("traffic_hourly", [5])]


def test_from_the_watermark_on_the_oldest_day_comes_first() -> None:
    """A later one would move the watermark past those before it, and hide them."""
    assert order(queue(None, traffic_hourly=[0, 3, 2, 9])) == [
        ("traffic_hourly", [n]) for n in (9, 3, 2, 0)
    ]


def test_no_day_is_taken_past_one_that_fails_beyond_the_watermark() -> None:
    queued = queue(TODAY - 10 * DAY, traffic_hourly=[12, 9, 8, 7])
    queued.wait(HOURLY, [TODAY - 8 * DAY])
    assert order(queued) == [("traffic_hourly", [12]), ("traffic_hourly", [9])]


def test_a_day_that_waits_leaves_the_others_of_its_rollup_alone() -> None:
    queued = queue(traffic_hourly=[3, 4, 5])
    queued.wait(HOURLY, [TODAY - 4 * DAY])
    assert order(queued) == [("traffic_hourly", [3]), ("traffic_hourly", [5])]


def test_neighbouring_days_are_one_run() -> None:
    queued = queue(traffic_hourly=[2, 3, 4, 5, 8])
    assert order(queued, 3) == [
        ("traffic_hourly", [4, 3, 2]),
        ("traffic_hourly", [5]),
        ("traffic_hourly", [8]),
    ]
    assert order(queue(None, traffic_hourly=[2, 3, 4]), 2) == [
        ("traffic_hourly", [4, 3]),
        ("traffic_hourly", [2]),
    ]


def test_a_run_of_recent_days_holds_no_older_ones() -> None:
    assert order(queue(traffic_hourly=[1, 2, 3]), 9)[0] == ("traffic_hourly", [1])


def test_a_refresh_moves_the_watermark_forward_only() -> None:
    queued = queue(TODAY - 5 * DAY, traffic_hourly=[9, 5])
    queued.remove(HOURLY, [TODAY - 9 * DAY], TODAY - 8 * DAY)
    assert queued.watermarks[HOURLY.name] == TODAY - 5 * DAY
    queued.remove(HOURLY, [TODAY - 5 * DAY], TODAY - 4 * DAY)
    assert queued.watermarks[HOURLY.name] == TODAY - 4 * DAY
    assert queued.watermarks[DAILY.name] == TODAY - 5 * DAY


def test_the_days_of_windows() -> None:
    hour = timedelta(hours=1)
    stretches = [(TODAY + hour, TODAY + 2 * hour), (TODAY + 3 * hour, TODAY + 2 * DAY + hour)]
    assert days_of(stretches) == [TODAY, TODAY + DAY, TODAY + 2 * DAY]
    assert days_of([(TODAY, TODAY + DAY)]) == [TODAY]
    assert days_of([]) == []
