"""POST /v1/events: every form of body, every refusal, and what is accepted is counted."""

import gzip
import json
import time

import pytest
from backports import zstd

from tests.service import Service, page_view


def test_every_form_of_body_is_accepted_and_counted(service: Service, shop: int) -> None:
    one = json.dumps(page_view()).encode()
    lines = b"\n".join([one, one, b""])
    ndjson = {"Content-Type": "application/x-ndjson"}
    bodies = [
        (one, {}, 1),
        (b"[" + one + b"," + one + b"]", {}, 2),
        (b'{"events": [' + one + b"]}", {}, 1),
        (lines, ndjson, 2),
        (gzip.compress(one, mtime=0), {"Content-Encoding": "gzip"}, 1),
        (zstd.compress(lines), {"Content-Encoding": "zstd", **ndjson}, 2),
    ]
    for body, headers, count in bodies:
        answer = service.call(
            "POST", "/v1/events", key=service.key(shop), content=body, headers=headers
        )
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"accepted": count, "rejected": []}
    service.wait_for_events(shop, 9)


def test_an_accepted_event_is_in_the_answer_within_five_seconds(
    service: Service, shop: int
) -> None:
    service.send(shop, page_view())
    began = time.monotonic()
    service.wait_for_events(shop, 1)
    assert time.monotonic() - began < 5


def test_each_bad_event_is_named_and_the_others_go_in(service: Service, shop: int) -> None:
    bad = page_view(country="ZZ")
    other = page_view(merchant_id=shop + 1)
    strange = page_view(colour="red")
    answer = service.call(
        "POST",
        "/v1/events",
        key=service.key(shop),
        json=[page_view(), bad, page_view(), other, strange],
    )
    assert answer.status_code == 202
    body = answer.json()
    assert body["accepted"] == 2
    assert [(r["index"], r["field"], r["reason"]) for r in body["rejected"]] == [
        (1, "country", "unknown_country"),
        (3, "merchant_id", "merchant_mismatch"),
        (4, "colour", "unknown_field"),
    ]
    assert all(r["detail"] for r in body["rejected"])


def test_validate_only_checks(service: Service, shop: int) -> None:
    answer = service.call(
        "POST", "/v1/events?validate=true", key=service.key(shop), json=page_view()
    )
    assert answer.json() == {"accepted": 1, "rejected": []}
    service.send(shop, page_view())
    service.wait_for_events(shop, 1)
    time.sleep(2)
    assert service.ask(shop, metrics=["events"], date_range="7d")["rows"][0]["events"] == 1


def test_a_clients_retry_counts_once(service: Service, shop: int) -> None:
    same = page_view(event_id="once")
    for _ in range(3):
        service.send(shop, same)
    service.send(shop, page_view(event_id="twice"))
    service.wait_for_events(shop, 2)
    time.sleep(1)
    assert service.ask(shop, metrics=["events"], date_range="7d")["rows"][0]["events"] == 2


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 400, "invalid_body"),
        (b"{", {}, 400, "invalid_body"),
        (b"\xff\xfe", {}, 400, "invalid_body"),
        (b"[" * 100_000, {}, 400, "invalid_body"),
        (b"[]", {}, 400, "no_events"),
        (b'{"events": []}', {}, 400, "no_events"),
        (b'{"events": 3}', {}, 400, "invalid_body"),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400, "invalid_compression"),
        (
            gzip.compress(b"{}", mtime=0)[:-6],
            {"Content-Encoding": "gzip"},
            400,
            "invalid_compression",
        ),
        (b"not zstd", {"Content-Encoding": "zstd"}, 400, "invalid_compression"),
        (b"{}", {"Content-Encoding": "br"}, 415, "unknown_encoding"),
        (b"x" * 10_000_000, {}, 413, "body_too_large"),
        (
            gzip.compress(b" " * 10_000_000, mtime=0),
            {"Content-Encoding": "gzip"},
            413,
            "body_too_large",
        ),
        (
            zstd.compress(b" " * 10_000_000),
            {"Content-Encoding": "zstd"},
            413,
            "body_too_large",
        ),
        (b"[" + b"1," * 10_000 + b"1]", {}, 413, "too_many_events"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(
    service: Service, shop: int, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = service.call(
        "POST", "/v1/events", key=service.key(shop), content=content, headers=headers
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_key_needs_the_scope(service: Service, shop: int) -> None:
    made = service.call(
        "POST", f"/v1/merchants/{shop}/keys", key=service.admin, json={"scopes": ["stats:read"]}
    )
    answer = service.call("POST", "/v1/events", key=made.json()["key"], json=page_view())
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


def test_what_was_sent_is_what_is_stored_byte_for_byte(service: Service, shop: int) -> None:
    import psycopg

    sent = {"note": 'quote " backslash \\ Ünïcode 🫖', "n": 1.5, "b": False, "z": None}
    service.send(shop, page_view(properties=sent, visitor_id="ü" * 120))
    service.wait_for_events(shop, 1)
    found = []
    for dsn in service.world.shards:
        with psycopg.connect(dsn) as connection:
            found += connection.execute(
                "SELECT properties FROM events WHERE merchant_id = %s", (shop,)
            ).fetchall()
    assert found == [(sent,)]
