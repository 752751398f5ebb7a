"""Which windows a pass refreshes."""

from datetime import UTC, datetime, timedelta

from db.refresh_queue import windows
from db.windows import Window, by_day, merged

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
START = datetime(2026, 9, 1, tzinfo=UTC)
NOW = START + 20 * DAY + timedelta(minutes=90)


def chunks(*numbers: int) -> list[Window]:
    """Chunks of the days of that number."""
    return [(START + n * DAY, START + (n + 1) * DAY) for n in numbers]


def test_only_the_buckets_of_late_events() -> None:
    dirty = (START + timedelta(minutes=61), START + timedelta(minutes=185))
    assert windows(HOUR, dirty, chunks(0), NOW) == [(START + HOUR, START + 4 * HOUR)]
    assert windows(DAY, dirty, chunks(0), NOW) == [(START, START + DAY)]


def test_neighbouring_chunks_are_one_window() -> None:
    dirty = (START, START + 2 * DAY)
    assert windows(DAY, dirty, chunks(0, 1, 2), NOW) == [(START, START + 3 * DAY)]


def test_where_raw_rows_were_dropped_nothing_is_refreshed() -> None:
    dirty = (START, START + 9 * DAY)
    assert windows(DAY, dirty, chunks(0, 8, 9), NOW) == [
        (START, START + DAY),
        (START + 8 * DAY, START + 10 * DAY),
    ]


def test_the_open_bucket_is_left_to_real_time_aggregation() -> None:
    assert windows(HOUR, (NOW, NOW), chunks(20), NOW) == []
    assert windows(DAY, (NOW, NOW), chunks(20), NOW) == []
    late = NOW - timedelta(minutes=60)
    assert windows(HOUR, (late, NOW), chunks(20), NOW) == [
        (START + 20 * DAY, START + 20 * DAY + HOUR)
    ]


def test_windows_that_touch_or_overlap_become_one() -> None:
    assert merged(chunks(2, 0)) == chunks(0, 2)
    assert merged(chunks(1, 0, 5)) == [(START, START + 2 * DAY), *chunks(5)]
    assert merged([(START, START + 9 * DAY), *chunks(3)]) == [(START, START + 9 * DAY)]
    assert merged([]) == []


def test_windows_are_cut_at_midnights() -> None:
    noon = timedelta(hours=12)
    assert by_day([(START + noon, START + 2 * DAY + HOUR)]) == [
        (START + noon, START + DAY),
        (START + DAY, START + 2 * DAY),
        (START + 2 * DAY, START + 2 * DAY + HOUR),
    ]
    assert by_day([(START, START + DAY)]) == [(START, START + DAY)]
    assert by_day([]) == []
