"""What differs between rows that stand and rows that came, and what that comes to."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from db.measures import Sum, added
from db.standing import EVENT_SCHEMA, ITEM_SCHEMA, Rows
from reprocess.compare import compare
from reprocess.proof import RowsDiffer, proof, rows_that_differ
from reprocess.ranges import lying_in, shared, without
from reprocess.sums import beside, by_day

NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def event(offset: int, **given: Any) -> dict[str, Any]:
    """A row of `events`, an hour later for each offset."""
    known = {
        "merchant_id": 7, "ts": NOON + offset * HOUR, "event": "page_view", "source": "(direct)",
        "is_bot": False, "counted": True, "units": 0, "log_offset": offset,
    }  # fmt: skip
    return dict.fromkeys(EVENT_SCHEMA) | known | given


def item(offset: int, index: int, **given: Any) -> dict[str, Any]:
    """A row of `event_items`."""
    known = {"merchant_id": 7, "ts": NOON + offset * HOUR, "quantity": 1}
    place = {"log_offset": offset, "item_index": index}
    return dict.fromkeys(ITEM_SCHEMA) | known | place | given


def rows(*events: dict[str, Any], items: tuple[dict[str, Any], ...] = ()) -> Rows:
    """In the log's order."""
    return Rows(pl.DataFrame(list(events), EVENT_SCHEMA), pl.DataFrame(list(items), ITEM_SCHEMA))


def test_equal_sides_have_no_difference() -> None:
    both = rows(event(0), event(1, page=None), items=(item(0, 0),))
    found = compare(both, both)
    assert (found.changes.before, found.changes.after, found.changes.changed) == (2, 2, 0)
    assert found.changes.columns == {}
    assert found.changes.hours == []
    assert found.old.events.is_empty()
    assert found.new.items.is_empty()


def test_columns_are_counted_and_only_what_differs_is_told() -> None:
    old = rows(event(0), event(1, page="/a"), event(2, page=None))
    new = rows(event(0), event(1, page="/b", channel="Email"), event(2, page=""))
    found = compare(old, new)
    assert found.changes.columns == {"page": 2, "channel": 1}
    assert found.changes.changed == 2
    assert found.old.events["log_offset"].to_list() == [1, 2]
    assert found.new.events["page"].to_list() == ["/b", ""]
    assert found.changes.hours == [(NOON + HOUR, NOON + 3 * HOUR)]


def test_what_came_what_went_and_what_moved_in_time_changes_both_hours() -> None:
    old = rows(event(0), event(1), event(5))
    new = rows(event(1), event(2), event(5, ts=NOON + 8 * HOUR))
    found = compare(old, new)
    assert found.changes.changed == 3
    assert found.changes.columns == {"ts": 1}
    hours = [NOON + hour * HOUR for hour in (0, 2, 5, 8)]
    assert found.changes.hours == [(hour, hour + HOUR) for hour in hours]


def test_what_stands_twice_differs_though_it_is_like_its_new_row() -> None:
    found = compare(rows(event(0), event(0), event(1)), rows(event(0), event(1)))
    assert found.changes.changed == 1
    assert found.old.events.height == 2
    assert found.new.events.height == 1


def test_an_item_alone_changes_its_event() -> None:
    old = rows(event(0), event(1), items=(item(0, 0), item(1, 0), item(1, 0), item(2, 0)))
    new = rows(event(0), event(1), items=(item(0, 0, quantity=2), item(1, 0)))
    found = compare(old, new)
    assert found.changes.changed == 3  # another quantity, one twice, one without its event
    assert found.old.events["log_offset"].to_list() == [0, 1]
    assert found.old.items.height == 4
    assert found.changes.hours == [(NOON, NOON + 3 * HOUR)]


def test_items_that_are_alike_stay_though_their_event_differs() -> None:
    items = (item(0, 0), item(1, 0), item(1, 1))
    old = rows(event(0, page="/a"), event(1, page="/a"), items=items)
    new = rows(event(0), event(1), items=(*items[:2], item(1, 1, quantity=2)))
    found = compare(old, new)
    assert found.changes.changed == 2
    assert found.gone.events["log_offset"].to_list() == [0, 1]
    assert found.gone.items["log_offset"].to_list() == [1, 1]
    assert found.made.items["quantity"].to_list() == [1, 2]


def test_sums_are_of_a_merchants_day_and_money_of_a_currency() -> None:
    order = {"event": "purchase", "units": 3, "value_minor": 500, "currency": "EUR"}
    old = rows(
        event(0, **order), event(1, **order, counted=False), event(2, is_bot=True), event(13)
    )
    new = rows(event(0, **order | {"currency": "USD"}), event(1, event="refund", value_minor=-9))
    first, second = date(2026, 9, 1), date(2026, 9, 2)
    assert by_day(beside(old.events, new.events)) == [
        Sum(first, "bots", 1, 0),
        Sum(first, "events", 2, 2),
        Sum(first, "orders", 1, 1),
        Sum(first, "revenue EUR", 500, 0),
        Sum(first, "revenue USD", 0, 500),
        Sum(first, "units", 3, 3),
        Sum(second, "events", 1, 0),
        Sum(second, "page_views", 1, 0),
    ]


def test_sums_of_two_passes_are_added() -> None:
    day = date(2026, 9, 1)
    both = added([Sum(day, "events", 2, 3)], [Sum(day, "events", 1, 1), Sum(day, "bots", 0, 1)])
    assert both == [Sum(day, "bots", 0, 1), Sum(day, "events", 3, 4)]


def test_a_proof_does_not_depend_on_order_and_tells_null_from_empty() -> None:
    events = rows(event(0, page=""), event(1)).events
    assert proof(events) == proof(events.reverse())
    assert proof(events) != proof(rows(event(0, page=None), event(1)).events)
    assert proof(events.clear()).rows == 0


def test_a_difference_is_told_for_the_merchants_hour_in_which_the_log_has_it() -> None:
    old = rows(event(0, value_minor=5), event(1), event(1), items=(item(3, 0),))
    new = rows(event(0, value_minor=7, ts=NOON + 2 * HOUR), event(1))
    assert rows_that_differ(compare(old, new)) == [
        RowsDiffer(7, NOON + HOUR, 1, 2, 0, 0, 1),
        RowsDiffer(7, NOON + 2 * HOUR, 1, 1, 7, 5, 1),
        RowsDiffer(7, NOON + 3 * HOUR, 0, 0, 0, 0, 1),
    ]


def test_ranges_are_shared_and_left_over() -> None:
    some, others = [(0, 10), (20, 30)], [(-5, 2), (5, 8), (9, 22), (40, 50)]
    assert shared(some, others) == [(0, 2), (5, 8), (9, 10), (20, 22)]
    assert without(some, others) == [(2, 5), (8, 9), (22, 30)]
    assert without(some, []) == some
    offsets = pl.DataFrame({"log_offset": [-1, 0, 9, 10, 20, 29, 30]})
    assert lying_in(some)(offsets).to_list() == [False, True, True, False, True, True, False]
