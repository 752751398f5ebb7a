"""Nothing personal of an event is kept: no ip, no query, no fragment, no password in a url."""

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.enrich import Enrichment
from events.limits import Limits
from events.privacy import public_url, redact
from events.transform import process
from tests.keys import VISITOR_HASH
from tests.unit.messages import NOW_MS, batch

SECRETS = ("access_token=s3cr3t", "email=a@b.example", "s3cr3t")


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://shop.example/a#access_token=s3cr3t", "https://shop.example/a"),
        ("https://shop.example/a?email=a@b.example", "https://shop.example/a"),
        ("https://shop.example/?x=1&utm_source=mail&y=2", "https://shop.example/?utm_source=mail"),
        ("https://s.example/?UTM_Source=m&GCLID=1#x", "https://s.example/?UTM_Source=m&GCLID=1"),
        ("https://s.example/?a=1&amp;utm_term=t", "https://s.example/?amp;utm_term=t"),
        ("https://user:s3cr3t@shop.example/a@b", "https://shop.example/a@b"),
        ("//user:s3cr3t@shop.example", "//shop.example"),
        ("android-app://com.google.android.gm/", "android-app://com.google.android.gm/"),
        ("/path/only?session=s3cr3t", "/path/only"),
        ("/a//b@c", "/a//b@c"),
        ("?utm_source=x", "?utm_source=x"),
        ("https://shop.example/a?utm_source", "https://shop.example/a?utm_source"),
        ("https://shop.example/a?xutm_source=s3cr3t&gclidx=1", "https://shop.example/a"),
        ("", ""),
        ("#", ""),
    ],
)
def test_a_url_keeps_what_tells_the_source(url: str, public: str) -> None:
    assert public_url(url) == public


_part = st.text(st.sampled_from("ab/?#@:&=;.%20utm_source=gclid"), max_size=30)


@given(_part)
def test_a_public_url_is_its_own(rest: str) -> None:
    url = "https://shop.example/" + rest
    public = public_url(url)
    assert public_url(public) == public
    assert "#" not in public


@given(_part, _part)
def test_a_row_is_the_same_without_the_private_parts(one: str, two: str) -> None:
    def row(url: str, referrer: str) -> pl.DataFrame:
        event = {
            "merchant_id": 1,
            "event": "page_view",
            "visitor_id": "v",
            "timestamp": NOW_MS,
            "url": url,
            "referrer": referrer,
        }
        message = batch([json.dumps(event).encode()])
        return process(message, limits=Limits(), enrichment=Enrichment(VISITOR_HASH)).rows

    url, referrer = f"https://shop.example/{one}", f"https://other.example/{two}"
    assert row(url, referrer).equals(row(public_url(url), public_url(referrer)))


BROKEN = {
    "event": "Not a name",
    "visitor_id": "v",
    "merchant_id": 1,
    "ip": "203.0.113.7",
    "url": "https://u:s3cr3t@shop.example/cart?email=a@b.example&utm_source=x#access_token=s3cr3t",
    "referrer": "https://login.example/?code=s3cr3t",
    "properties": {"note": "kept"},
}


def test_a_reject_of_readable_json_keeps_all_but_the_personal_data() -> None:
    kept = json.loads(redact(json.dumps(BROKEN).encode()) or b"")
    assert kept == BROKEN | {
        "ip": "redacted",
        "url": "https://shop.example/cart?utm_source=x",
        "referrer": "https://login.example/",
    }


@pytest.mark.parametrize("escape", ["\\u0069p", "i\\u0070"])
def test_an_escaped_name_hides_nothing(escape: str) -> None:
    raw = f'{{"{escape}":"203.0.113.7","event":"Not a name"}}'.encode()
    assert b"203.0.113.7" not in (redact(raw) or b"")


@pytest.mark.parametrize("end", [b"", b"}", b',"x":\xff}', b',"x":"\\ud83d"', b"\n{"])
def test_a_reject_of_broken_json_is_cut_where_privacy_begins(end: bytes) -> None:
    raw = json.dumps(BROKEN).encode()[:-1] + b',"broken":' + end
    kept = redact(raw) or b""
    assert b"203.0.113.7" not in kept
    assert not any(secret.encode() in kept for secret in SECRETS)
    assert b"Not a name" in kept


@given(st.binary(max_size=300))
def test_redacting_never_fails(raw: bytes) -> None:
    redact(b'{"url":"' + raw)
    redact(raw)


def test_the_table_of_rejects_holds_no_personal_data() -> None:
    found = process(
        batch([json.dumps(BROKEN).encode()]),
        limits=Limits(),
        enrichment=Enrichment(VISITOR_HASH),
    )
    (raw,) = found.rejects["raw"].to_list()
    assert b"203.0.113.7" not in raw
    assert b"s3cr3t" not in raw
