"""Whatever a message holds ends as a row or a reject, by one verdict in every batch."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from events import transform
from events.batch import Messages, Processed, bounded_log_time
from events.check import Event, Rejection, check
from events.enrich import Enrichment
from events.limits import EARLIEST_LOG_MS, LATEST_LOG_MS, Limits
from events.nesting import MAX_DEPTH
from events.reasons import Reason
from events.transform import process
from tests.keys import VISITOR_HASH
from tests.unit.hostile_corpus import CORPUS, FIELDS, FRAGMENTS, LOG_TIMES, with_text
from tests.unit.messages import NOW_MS, batch, raw

LIMITS = Limits()
ENRICHMENT = Enrichment(VISITOR_HASH)
GOOD = [raw(event_id=f"g-{number}") for number in range(5)]
Verdict = tuple[str, str | None] | None


def processed(messages: Messages, limits: Limits = LIMITS) -> Processed:
    """By the transform of live and replay."""
    return process(messages, limits=limits, enrichment=ENRICHMENT)


def by_rows(messages: Messages, limits: Limits = LIMITS) -> list[Verdict]:
    """Each message's reason and field by the row-by-row check; None where it is accepted."""
    verdicts: list[Verdict] = []
    for value, at in zip(messages.values, messages.logged_ms.tolist(), strict=True):
        found = check(value, now_ms=at, limits=limits)
        verdicts.append((str(found.reason), found.field) if isinstance(found, Rejection) else None)
    return verdicts


def by_columns(messages: Messages, limits: Limits = LIMITS) -> list[Verdict]:
    """The same by the columns; fails where a message is in neither or in both."""
    found = processed(messages, limits)
    verdicts: dict[int, Verdict] = dict.fromkeys(found.rows["log_offset"].to_list())
    for offset, reason, field in found.rejects.select("log_offset", "reason", "field").rows():
        assert offset not in verdicts
        verdicts[offset] = (reason, field)
    assert sorted(verdicts) == messages.offsets.tolist()
    return [verdicts[offset] for offset in messages.offsets.tolist()]


def test_the_corpus_gets_the_rows_verdict_alone_and_in_every_company() -> None:
    wanted = by_rows(batch(list(CORPUS)))
    assert by_columns(batch(list(CORPUS))) == wanted
    for value, verdict in zip(CORPUS, wanted, strict=True):
        among = by_columns(batch([GOOD[0], value, GOOD[1]]))
        assert among == [None, verdict, None], value[:300]
    for size in (7, 50):
        for start in range(0, len(CORPUS), size):
            part = CORPUS[start : start + size]
            assert by_columns(batch(list(part))) == wanted[start : start + size]


def test_nothing_in_the_corpus_needs_the_last_resort() -> None:
    reasons = processed(batch(list(CORPUS))).rejects["reason"].unique().to_list()
    assert str(Reason.TRANSFORM_GAP) not in reasons
    assert set(reasons) <= {str(reason) for reason in Reason}


def test_a_row_is_the_same_alone_and_in_every_company() -> None:
    together = processed(batch(list(CORPUS)))
    for place, value in enumerate(CORPUS):
        alone = processed(
            Messages([value], np.zeros(1, np.int32), np.array([100 + place]), np.array([NOW_MS]))
        )
        here = pl.col("log_offset") == 100 + place
        assert_frame_equal(alone.rows, together.rows.filter(here))
        assert_frame_equal(alone.items, together.items.filter(here))
        assert_frame_equal(alone.rejects, together.rejects.filter(here))


JSON: st.SearchStrategy[str] = st.recursive(
    st.sampled_from(FRAGMENTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]"),
        st.lists(
            st.tuples(st.sampled_from([r'"a"', r'"\ud83d"', '"price"', '"product_id"']), inner),
            max_size=3,
        ).map(lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"),
    ),
    max_leaves=6,
)


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """An event some fields of which, maybe given twice, hold any JSON or nearly JSON."""
    value = raw(currency="EUR", event=draw(st.sampled_from(["page_view", "purchase"])))
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        text = draw(JSON).encode("utf-8", "surrogatepass")
        value = value[:-1] + b', "' + name.encode() + b'": ' + text + b"}"
    if draw(st.booleans()):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(st.binary(max_size=3)) + value[at:]
    return value


MESSAGE = st.one_of(hostile(), st.sampled_from(CORPUS), st.binary(max_size=60), st.none())
LOG_TIME = st.one_of(st.sampled_from(LOG_TIMES), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(MESSAGE, LOG_TIME, st.integers(0, 2**31 - 1)), min_size=1, max_size=8),
    st.sampled_from([LIMITS, Limits(max_age_days=10**6, max_ahead_s=10**10)]),
)
def test_any_bytes_with_any_metadata_get_one_verdict(
    given_messages: list[tuple[bytes | None, int, int]], limits: Limits
) -> None:
    values, times, partitions = zip(*given_messages, strict=True)
    messages = Messages(
        list(values),
        np.array(partitions, np.int32),
        np.arange(2**63 - 1 - len(values), 2**63 - 1, dtype=np.int64),
        np.array(times, np.int64),
    )
    assert by_columns(messages, limits) == by_rows(messages, limits)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(MESSAGE, LOG_TIME), min_size=1, max_size=5))
def test_over_http_every_event_gets_a_verdict_with_a_reason(
    events: list[tuple[bytes | None, int]],
) -> None:
    for value, now_ms in events:
        found = check(value, now_ms=now_ms, limits=LIMITS, merchant_id=7, over_http=True)
        if isinstance(found, Rejection):
            assert 0 < len(found.detail) < 300
            assert found.field is None or len(found.field) <= 64


@pytest.mark.parametrize("over_http", [True, False])
def test_half_an_emoji_is_refused_with_how_to_mend_it(over_http: bool) -> None:
    for half in (r'"\ud83c"', r'"\ude00"', r'"a\ud83cb"'):
        found = check(with_text("url", half), now_ms=NOW_MS, limits=LIMITS, over_http=over_http)
        assert isinstance(found, Rejection)
        assert found.reason == Reason.INVALID_TEXT
        assert "cut texts between characters" in found.detail


@pytest.mark.parametrize("depth", [MAX_DEPTH, 3000, 500_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_deep_nesting_is_refused_with_the_limit(depth: int, pair: str) -> None:
    opening = '{"a":' if pair == "{}" else "["
    text = opening * depth + "1" + pair[1] * depth
    if len(text) > 1_000_000:
        text = "[" * depth + "]" * depth  # still within the size of a message
    found = check(with_text("unknown", text), now_ms=NOW_MS, limits=LIMITS)
    assert isinstance(found, Rejection)
    assert (found.reason, found.field) == (Reason.INVALID_JSON, None)
    assert str(MAX_DEPTH) in found.detail


def test_nesting_within_the_limit_is_accepted_whatever_the_callers_stack() -> None:
    value = with_text("unknown", "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))

    def deeper(levels: int) -> Event | Rejection:
        return check(value, now_ms=NOW_MS, limits=LIMITS) if levels == 0 else deeper(levels - 1)

    assert isinstance(deeper(0), Event)
    assert isinstance(deeper(400), Event)
    assert by_columns(batch([value])) == [None]


@pytest.mark.parametrize("logged_ms", LOG_TIMES)
def test_a_log_time_beyond_the_calendar_is_bounded_and_its_message_a_reject(logged_ms: int) -> None:
    found = processed(batch([raw(), raw(timestamp=...), b"{no"], logged_ms))
    credible = EARLIEST_LOG_MS < logged_ms < LATEST_LOG_MS
    bounded = min(max(logged_ms, EARLIEST_LOG_MS), LATEST_LOG_MS)
    assert set(found.rejects["logged_at"].dt.epoch("ms").to_list()) <= {bounded}
    reasons = dict(found.rejects.select("log_offset", "reason").rows())
    assert reasons[102] == Reason.INVALID_JSON
    if logged_ms == NOW_MS:
        assert set(reasons) == {102}
    else:
        assert reasons[100] in {Reason.IN_FUTURE, Reason.TOO_OLD}
    if not credible:
        assert reasons[101] == Reason.MISSING


def test_credible_log_times_are_left_as_they_are() -> None:
    times = np.array([1, NOW_MS, LATEST_LOG_MS - 1], np.int64)
    assert bounded_log_time(times) is times
    assert bounded_log_time(np.empty(0, np.int64)).size == 0


class PanicException(BaseException):  # as Rust extensions call theirs
    """Like a panic of an extension."""


@pytest.fixture(params=[ValueError, RecursionError, pl.exceptions.ComputeError, PanicException])
def gap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transform that raises for events named `gap`."""
    right = transform._items

    def wrong(frame: pl.DataFrame) -> pl.DataFrame:
        if "gap" in frame["event"].to_list():
            raise request.param("visitor v-1 of 203.0.113.7")
        return right(frame)

    monkeypatch.setattr(transform, "_items", wrong)


@pytest.mark.usefixtures("gap")
@pytest.mark.parametrize("places", [[0], [11], [4, 5], [0, 3, 11], list(range(12))])
def test_a_message_that_makes_the_transform_raise_is_a_reject_and_the_rest_are_rows(
    places: list[int],
) -> None:
    values = [raw(event_id=f"e-{n}", event="gap" if n in places else "ok") for n in range(12)]
    with structlog.testing.capture_logs() as logged:
        found = processed(batch(list(values)))
    others = [100 + n for n in range(12) if n not in places]
    assert found.rows["log_offset"].to_list() == others
    assert found.rejects["log_offset"].to_list() == [100 + n for n in places]
    assert found.rejects["raw"].to_list() == [values[n] for n in places]
    assert set(found.rejects["reason"].to_list()) == {str(Reason.TRANSFORM_GAP)}
    assert found.rejects["merchant_id"].to_list() == [7] * len(places)
    assert found.rejects["event_id"].to_list() == [f"e-{n}" for n in places]
    assert [line["log_offset"] for line in logged] == [100 + n for n in places]
    assert {line["log_level"] for line in logged} == {"error"}
    assert "203.0.113.7" not in str(logged)
    assert "203.0.113.7" not in str(found.rejects["detail"].to_list())


@pytest.mark.usefixtures("gap")
def test_a_replay_that_wants_other_events_gets_no_reject_of_the_culprit() -> None:
    def only(frame: pl.DataFrame) -> pl.Series:
        return frame["log_offset"] == 100

    values: list[bytes | None] = [raw(), raw(event="gap")]
    found = process(batch(values), limits=LIMITS, enrichment=ENRICHMENT, only=only)
    assert found.rows["log_offset"].to_list() == [100]
    assert found.rejects.is_empty()


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, OSError, ValueError])
def test_a_fault_that_is_not_in_the_messages_is_raised(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(frame: pl.DataFrame, **_: Any) -> pl.DataFrame:
        raise error

    monkeypatch.setattr(transform, "_items", broken)
    with pytest.raises(error):
        processed(batch([raw(), raw()]))
