"""Bodies are split into single events whatever stands in them, and never half read."""

import gzip
import json
from typing import Any

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from litestar.plugins.problem_details import ProblemDetailsException

from api import bodies
from api.bodies import SERVERS, decompress, split

GOOD = b'{"event":"page_view","note":"a \\"quoted, [brace}\\\\"}'
HALF_EMOJI = b'{"event":"page_view","visitor_id":"\\ud83c"}'
DEEP = b'{"properties":' + b"[" * 3_000 + b"]" * 3_000 + b"}"
NO_JSON = b'{"event":nonsense}'


def code(error: pytest.ExceptionInfo[ProblemDetailsException]) -> tuple[int, Any]:
    assert error.value.extra is not None
    return error.value.status_code, dict(error.value.extra)["code"]


@pytest.mark.parametrize("broken", [HALF_EMOJI, DEEP, NO_JSON], ids=["emoji", "deep", "no JSON"])
@pytest.mark.parametrize("form", ["list", "envelope", "NDJSON", "large list"])
def test_one_broken_event_leaves_its_neighbours(broken: bytes, form: str) -> None:
    events = [GOOD, broken, GOOD]
    kind = "application/json"
    match form:
        case "list":
            body = b" [" + b" ,\n".join(events) + b"] "
        case "envelope":
            body = b'{"events" : [' + b",".join(events) + b"]}"
        case "NDJSON":
            body, kind = b"\n\n".join(events) + b"\r\n", "application/x-ndjson"
        case _:
            events = [GOOD, broken, *[GOOD] * 2_000]
            body = b"[" + b",".join(events) + b"]"
    assert split(body, kind) == events


@pytest.mark.parametrize("broken", [HALF_EMOJI, DEEP], ids=["emoji", "deep"])
def test_a_single_broken_event_is_its_own_verdict(broken: bytes) -> None:
    assert split(broken, "application/json") == [broken]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(_values, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_the_scanner_splits_as_a_parser_does(
    values: list[Any], envelope: bool, ascii_only: bool
) -> None:
    body = json.dumps({"events": values} if envelope else values, ensure_ascii=ascii_only).encode()
    scanned = bodies._scanned(body, "", SERVERS)
    assert [json.loads(each) for each in scanned] == values
    assert scanned == split(body, "application/json")


@given(st.binary(max_size=60).map(lambda noise: b"[" + noise))
def test_splitting_noise_never_fails_but_with_a_problem(body: bytes) -> None:
    try:
        split(body, "application/json")
    except ProblemDetailsException as error:
        assert error.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1",
        b'["a]',
        b"]",
        b"[1]]",
        b"[1] 2",
        b"{}{}",
        b"\xff\xfe",
        b"",
        b'{"events":[{}],"extra":NaN}',
        b'{"events":["\\ud83c"],"extra":1}',
    ],
)
def test_what_is_no_json_as_a_whole_is_refused(body: bytes) -> None:
    with pytest.raises(ProblemDetailsException) as error:
        split(body, "application/json")
    assert code(error) == (400, "invalid_body")


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b'{"events":[]}'])
def test_no_event_is_said_so(body: bytes) -> None:
    with pytest.raises(ProblemDetailsException) as error:
        split(body, "application/json")
    assert code(error) == (400, "no_events")


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_splitting_stops_at_the_most_events(kind: str) -> None:
    body = b"[" + b"1," * 2_000_000 + b"1]" if kind == "application/json" else b"1\n" * 2_000_000
    with pytest.raises(ProblemDetailsException) as error:
        split(body, kind)
    assert code(error) == (413, "too_many_events")


EVENTS = b"\n".join(b'{"event":"page_view","note":"%d"}' % (n * n) for n in range(5_000))


def pieces(pack: Any) -> bytes:
    return b"".join(pack(EVENTS[at : at + 50_000]) for at in range(0, len(EVENTS), 50_000))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(EVENTS, mtime=0)),
        ("gzip", pieces(lambda part: gzip.compress(part, mtime=0))),
        ("gzip", gzip.compress(EVENTS, mtime=0) + gzip.compress(b"", mtime=0)),
        ("gzip", gzip.compress(EVENTS, mtime=0) + bytes(512)),  # padding, as tapes have it
        ("zstd", zstd.compress(EVENTS)),
        ("zstd", pieces(zstd.compress)),
        ("zstd", b"\x50\x2a\x4d\x18\x02\0\0\0ab" + zstd.compress(EVENTS)),
        ("zstd", zstd.compress(EVENTS, options={zstd.CompressionParameter.checksum_flag: 1})),
        ("identity", EVENTS),
    ],
)
def test_every_member_and_frame_is_read(encoding: str, packed: bytes) -> None:
    assert decompress(packed, encoding) == EVENTS


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        *(("gzip", gzip.compress(EVENTS, mtime=0)[:cut]) for cut in (-1, -8, -9, 100, 5)),
        *(("zstd", zstd.compress(EVENTS)[:cut]) for cut in (-1, -5, 100, 5)),
        ("gzip", gzip.compress(b"{}", mtime=0) + gzip.compress(EVENTS, mtime=0)[:-9]),
        ("zstd", zstd.compress(b"{}") + zstd.compress(EVENTS)[:-9]),
        ("gzip", gzip.compress(EVENTS, mtime=0) + b"garbage"),
        ("zstd", zstd.compress(EVENTS) + b"garbage"),
        ("gzip", EVENTS),
        ("zstd", EVENTS),
        ("gzip", b""),
        ("zstd", b""),
        ("gzip", gzip.compress(b"", mtime=0) * 1_001),
        ("zstd", zstd.compress(b"") * 1_001),
        ("zstd", zstd.compress(EVENTS * 50, options={zstd.CompressionParameter.window_log: 27})),
    ],
)
def test_a_stream_that_is_not_whole_is_refused_as_a_whole(encoding: str, packed: bytes) -> None:
    with pytest.raises(ProblemDetailsException) as error:
        decompress(packed, encoding)
    assert code(error) == (400, "invalid_compression")


@pytest.mark.parametrize("pack", [lambda plain: gzip.compress(plain, mtime=0), zstd.compress])
def test_a_bomb_is_refused_at_five_mebibytes(pack: Any) -> None:
    with pytest.raises(ProblemDetailsException) as error:
        encoding = "gzip" if pack(b"")[:2] == b"\x1f\x8b" else "zstd"
        decompress(pack(bytes(100 << 20)), encoding)
    assert code(error) == (413, "body_too_large")
