"""What a run from files may do, and what a sample says: the pure parts."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from db.measures import Sum
from db.orders import Claim, decide
from db.runs import Changes
from reprocess.archive_files import Origin
from reprocess.diff import Diff, sampled
from reprocess.file_plan import topic_id_of
from reprocess.read_files import Told
from reprocess.topic_log import RefusedError

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
ORDER = (1, "o")


def told(*topics: str) -> Told:
    """What files hold: archives of these topics, or services' logs."""
    return Told(origins=[Origin(topic, f"id of {topic}", 0, [(0, 10)]) for topic in topics])


def test_a_window_is_kept_under_the_id_of_the_topic_it_came_from() -> None:
    assert topic_id_of(told("t"), "t", "today", {"other"}) == "id of t"
    assert topic_id_of(told(), "t", "today", set()) == "today"
    assert topic_id_of(told(), "t", "today", {"before"}) == "before"
    with pytest.raises(RefusedError, match="of topic u"):
        topic_id_of(told("u"), "t", "today", set())
    with pytest.raises(RefusedError, match="several topics"):
        topic_id_of(told(), "t", "today", {"a", "b"})


def test_the_first_purchase_is_the_logs_first_or_where_files_come_in_the_earliest() -> None:
    in_log, later = Claim(5, NOON), Claim(9, NOON - timedelta(hours=1))
    assert decide({}, {ORDER: [later]}, {ORDER: in_log}, {}).uncounted == [9]
    from_file = Claim(-100, NOON + timedelta(hours=1))
    assert decide({}, {ORDER: [from_file]}, {ORDER: in_log}, {}).uncounted == [-100]
    early = Claim(-100, NOON - timedelta(hours=1))
    verdict = decide({}, {ORDER: [early]}, {ORDER: in_log}, {})
    assert verdict.claimed == {ORDER: early}
    assert verdict.elsewhere == [(in_log, False)]


def test_a_sample_is_every_nth_line_and_never_none() -> None:
    lines = pl.DataFrame({"start_offset": range(250)})
    assert sampled(lines, 0.01)["start_offset"].to_list() == [0, 100, 200]
    assert sampled(lines, 1.0).height == 250
    assert sampled(lines.head(3), 0.01).height == 1


def test_a_sample_is_scaled_by_what_it_stands_for() -> None:
    found = Diff()
    changes = Changes(10, 10, 2, {"channel": 2}, [])
    sums = [Sum(date(2026, 9, 1), "events", 10, 8), Sum(date(2026, 9, 2), "events", 1, 2)]
    found.add(changes, sums, 4.0)
    found.add(changes, [], 2.0)
    events = found.measures["events"]
    assert (events.before, events.after) == (11, 10)
    assert (events.before_scaled, events.after_scaled) == (44, 40)
    assert found.rows_differing_scaled == 12
    assert found.columns == {"channel": 4}
