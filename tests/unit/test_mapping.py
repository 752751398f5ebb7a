"""Mappings: what a row of a CSV file becomes, and what is said where it cannot."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from events.agents import parse as parse_agent
from events.check import Event, check
from events.limits import Limits
from footfall import mapping
from footfall.mapping import MappingError, Source, custom_name

HEADER = "user_id,event,timestamp\n"
ROW = "219,payment_done,2019-11-01 17:59:13.273932\n"


def written(folder: Path, text: str, name: str = "shop.csv") -> Path:
    """A file of the shop with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def events_of(path: Path, how: mapping.Mapping | None = None) -> list[dict[str, Any]]:
    """What a file's rows become."""
    source = Source(path, how or mapping.find("onlineshop"), 7)
    return [json.loads(value) for _, value in source.messages()]


def described(**fields: Any) -> bytes:
    """A mapping's JSON: the least, and these."""
    columns = {"visitor_id": "user_id", "event": "event", "timestamp": "timestamp"}
    least = {"columns": columns, "time_format": "%Y-%m-%d %H:%M:%S.%f"}
    return json.dumps(least | fields).encode()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("main", {"event": "page_view", "url": "/"}),
        ("catalog", {"event": "page_view", "url": "/catalog"}),
        ("product1", {"event": "view_item", "product_id": "product1"}),
        ("product2", {"event": "view_item", "product_id": "product2"}),
        ("cart", {"event": "add_to_cart"}),
        ("delivery_choice", {"event": "begin_checkout"}),
        ("payment_done", {"event": "purchase", "order_id": "219 2019-11-01 17:59:13.273932"}),
        ("payment_choice", {"event": "payment_choice"}),
    ],
)
def test_the_shops_events_are_ours(tmp_path: Path, name: str, fields: dict[str, str]) -> None:
    path = written(tmp_path, f"{HEADER}219,{name},2019-11-01 17:59:13.273932\n")
    [found] = events_of(path)
    assert parse_agent(found.pop("user_agent")).device == "desktop"
    assert len(found.pop("event_id")) == 32
    rest = {"merchant_id": 7, "timestamp": 1_572_631_153_273, "visitor_id": "219"}
    assert found == rest | fields


def test_what_is_made_keeps_the_contract(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + ROW + "1,main,2019-11-02 00:00:00.000000\n")
    for key, value in Source(path, mapping.find("onlineshop"), 42).messages():
        now_ms = 1_575_000_000_000
        assert key == b"42"
        assert isinstance(check(value, now_ms=now_ms, limits=Limits(), over_http=True), Event)


def test_event_ids_differ_by_row_and_stay_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + ROW * 3)
    ids = [event["event_id"] for event in events_of(path)]
    assert len(set(ids)) == 3
    assert ids == [event["event_id"] for event in events_of(path)]
    changed = written(tmp_path, HEADER + ROW.replace("219", "220") + ROW * 2, "changed.csv")
    again = [event["event_id"] for event in events_of(changed)]
    assert again[0] != ids[0]
    assert again[1:] == ids[1:]


def test_packed_files_marks_quotes_and_empty_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv.gz"
    text = "\ufeff" + HEADER + '"a,\nb",main,2019-11-01 17:59:13.273932\r\n\r\n' + ROW
    path.write_bytes(gzip.compress(text.encode()))
    source = Source(path, mapping.find("onlineshop"), 7)
    assert source.check() == 2
    assert [event["visitor_id"] for event in events_of(path)] == ["a,\nb", "219"]


def test_times_are_of_the_mappings_zone_unless_they_bear_an_offset(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "1,main,2019-07-01 12:00\n")
    how = mapping.parse(described(time_format="%Y-%m-%d %H:%M", timezone="Europe/Berlin"), "x")
    assert events_of(path, how)[0]["timestamp"] == 1_561_975_200_000
    path = written(tmp_path, HEADER + "1,main,2019-07-01 12:00 +0545\n")
    how = mapping.parse(described(time_format="%Y-%m-%d %H:%M %z", timezone="Europe/Berlin"), "x")
    assert events_of(path, how)[0]["timestamp"] == 1_561_961_700_000


def test_an_events_fields_win_and_texts_are_filled(tmp_path: Path) -> None:
    how = mapping.parse(
        described(
            fields={"country": "DE", "quantity": 1},
            events={"main": {"event": "page_view", "fields": {"country": "FR", "url": "/{event}"}}},
        ),
        "x",
    )
    path = written(tmp_path, HEADER + "1,main,2019-11-01 17:59:13.2\n1,b,2019-11-01 17:59:13.2\n")
    first, second = events_of(path, how)
    assert (first["country"], first["url"], first["quantity"]) == ("FR", "/main", 1)
    assert (second["country"], second["event"]) == ("DE", "b")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("payment_card", "payment_card"),
        ("Add to wishlist!", "add_to_wishlist"),
        ("3D view", "event_3d_view"),
        ("__x--y__", "x_y"),
        ("a" * 100, "a" * 64),
        ("9" * 100, "event_" + "9" * 58),
        ("корзина", ""),
        ("", ""),
    ],
)
def test_custom_names_are_sanitised(name: str, wanted: str) -> None:
    assert custom_name(name) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_id,what,when\n", "has no column event, timestamp; its columns are user_id, what"),
        ("", "its columns are none"),
        (HEADER + ROW + "1,main,yesterday\n", "line 3: time data 'yesterday' does not match"),
        (HEADER + ROW + ROW + "1,main\n", "line 4: 2 cells, but 3 columns"),
        (HEADER + "1,корзина,2019-11-01 17:59:13.2\n", "line 2: the event's name 'корзина'"),
        (HEADER + ROW + '1,"main,2019\n', "after line 2: unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(MappingError) as error:
        Source(written(tmp_path, text), mapping.find("onlineshop"), 7).check()
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["shop.csv", "shop.csv.gz", "shop.csv.zst"])
def test_a_file_of_other_bytes_says_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HEADER.encode() + b"\xff\xfe\n")
    with pytest.raises(MappingError, match="after line 0"):
        Source(path, mapping.find("onlineshop"), 7).check()


def test_what_is_no_plain_file_is_not_read_twice(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="not a plain file"):
        Source(tmp_path, mapping.find("onlineshop"), 7).check()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "mapping x: "),
        (b'{"time_format": "%Y"}', "missing required field `columns`"),
        (described(separator=";"), "unknown field `separator`"),
        (described(timezone="Mars/Olympus"), "no time zone 'Mars/Olympus'"),
        (described(timezone="../UTC"), "no time zone '../UTC'"),
        (described(fields={"event_id": "1", "colour": "red"}), "cannot set colour, event_id"),
        (described(events={"a": {"event": "Buy"}}), "'Buy' is not an event's name"),
        (described(events={"a": {"event": "purchase"}}), "purchase needs the field order_id"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_why(raw: bytes, said: str) -> None:
    with pytest.raises(MappingError) as error:
        mapping.parse(raw, "x")
    assert said in str(error.value)


def test_mappings_are_found_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_bytes(described())
    assert mapping.find(str(path)).timezone == "UTC"
    assert mapping.built_in() == ["onlineshop"]
    with pytest.raises(MappingError, match="neither a file nor one of onlineshop"):
        mapping.find("nothing")
    with pytest.raises(MappingError, match="cannot be read"):
        mapping.find(str(tmp_path))
