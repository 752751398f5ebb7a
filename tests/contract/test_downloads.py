"""Files of rows: formulas do no harm, and a reader that does not read holds nobody up."""

import asyncio
import csv
import io
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.slow_readers import SlowReaders
from tests.processes import wait_until
from tests.service import Service, page_view, serving

CSV = {"Accept": "text/csv"}
HOSTILE = [
    '=HYPERLINK("https://evil.example","x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\tx",
    "\uff1d1+1",
    "\u200b=1+1",
    "\ufeff\u00a0@SUM(A1)",
    "plain",
    "a=b",
]


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_a_formula_that_a_visitor_sent_is_text_in_a_file(service: Service, shop: int) -> None:
    service.send(
        shop,
        *(
            page_view(url=f"https://shop.example/?utm_source=x&utm_campaign={quote(text)}")
            for text in HOSTILE
        ),
    )
    service.wait_for_events(shop, len(HOSTILE))
    question = {"metrics": ["events"], "dimensions": ["campaign"], "date_range": "7d"}

    def asked(query: dict[str, Any], accept: dict[str, str], path: str = "/v1/query") -> bytes:
        answer = service.call("POST", path, key=service.key(shop), json=query, headers=accept)
        assert answer.status_code == 200, answer.text
        return answer.content

    sent = {text.strip("\t") if text == "\tx" else text for text in HOSTILE}
    for query in (question, {**question, "limit": 100}):
        cells = {row["campaign"] for row in rows(asked(query, CSV))}
        unseen = "\u200b\ufeff\u00a0"
        assert not [cell for cell in cells if cell.strip(unseen)[:1] in "=+-@\t\r\uff1d"], cells
        assert {cell.removeprefix("'").strip("\t") for cell in cells} == sent
        assert {"plain", "a=b"} <= cells
    lines = asked(question, {"Accept": "application/x-ndjson"}).splitlines()
    assert {json.loads(line)["campaign"].strip("\t") for line in lines} == sent
    path = f"/v1/merchants/{shop}/breakdown?dimension=campaign&metrics=events&date_range=7d"
    got = service.call("GET", path, key=service.key(shop), headers=CSV)
    assert not [row for row in rows(got.content) if row["campaign"][:1] in "=+-@\t\r\uff1d"]


def test_excel_is_told_the_encoding_where_that_is_asked_for(service: Service, shop: int) -> None:
    question = {"metrics": ["events"], "dimensions": ["page"]}
    for query in (question, {**question, "limit": 10}):
        for path, begins in (("/v1/query?bom=1", True), ("/v1/query", False)):
            got = service.call("POST", path, key=service.key(shop), json=query, headers=CSV)
            assert got.content.startswith(b"\xef\xbb\xbf") == begins
    plain = {"Accept": "application/x-ndjson"}
    got = service.call(
        "POST", "/v1/query?bom=1", key=service.key(shop), json=question, headers=plain
    )
    assert not got.content.startswith(b"\xef\xbb\xbf")


def open_download(service: Service, shop: int) -> socket.socket:
    """A request for a file of all pages, whose answer nobody reads."""
    port = int(service.environment["FOOTFALL_API_PORT"])
    body = json.dumps({"metrics": ["events"], "dimensions": ["page"], "date_range": "7d"})
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    opened.connect(("127.0.0.1", port))
    opened.sendall(
        f"POST /v1/query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.key(shop)}\r\n"
        f"Accept: text/csv\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        f"{body}".encode()
    )
    return opened


def test_files_that_are_not_read_hold_up_no_other_merchant(
    service: Service, tmp_path: Path
) -> None:
    """Nor do they keep a transaction of the database open."""
    with serving(service.world, tmp_path) as (own, _):
        slow, other = own.merchant(), own.merchant()
        pages = [page_view(url=f"https://s.example/{n}/{'x' * 1_900}") for n in range(4_000)]
        for at in range(0, len(pages), 1_000):
            own.send(slow, *pages[at : at + 1_000])
        own.send(other, page_view())
        own.wait_for_events(slow, len(pages))
        own.wait_for_events(other, 1)
        unread = [open_download(own, slow) for _ in range(2)]
        try:
            time.sleep(1)
            for _ in range(5):
                got = own.call(
                    "POST",
                    "/v1/query",
                    key=own.key(other),
                    json={"metrics": ["events"], "dimensions": ["page"]},
                    headers=CSV,
                )
                assert got.status_code == 200, got.text
            refused = own.call(
                "POST",
                "/v1/query",
                key=own.key(slow),
                json={"metrics": ["events"], "dimensions": ["page"]},
                headers=CSV,
            )
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_files")
        finally:
            for each in unread:
                each.close()

        def allowed() -> bool:
            return (
                own.call(
                    "POST",
                    "/v1/query",
                    key=own.key(slow),
                    json={"metrics": ["events"], "dimensions": ["page"]},
                    headers=CSV,
                ).status_code
                == 200
            )

        wait_until(allowed, 60, "files of clients that have gone are still counted")


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Any:
        return {"type": "http.request"}

    slow = SlowReaders(write_within_s=0.01)
    with pytest.raises(TimeoutError):
        await slow.handle({"type": "http"}, receive, send, app)  # type: ignore[arg-type]  # all it reads
