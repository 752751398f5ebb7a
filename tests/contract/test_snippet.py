"""footfall.js on a real page in a real browser, sending to the real service."""

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route

from tests.browser.chromium import chromium
from tests.browser.site import site
from tests.service import Service

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0 "
    "Safari/537.36"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of this module alone: it has an event loop of its own that others must not meet."""
    with chromium() as running:
        yield running


@dataclass(slots=True)
class Shop:
    """A shop's site that carries the snippet, and a visitor's browser."""

    service: Service
    merchant: int
    key: str
    origin: str
    context: BrowserContext
    sent: list[Request] = field(default_factory=list)

    def visit(self, path: str = "/") -> Page:
        """A tab at a page of the shop."""
        page = self.context.new_page()
        page.goto(self.origin + path)
        return page

    def wait_until_sent(self) -> None:
        """Until a request was made. Playwright tells of them only while it works for us."""
        deadline = time.monotonic() + 10
        while not self.sent:
            assert time.monotonic() < deadline, "nothing was sent"
            self.context.pages[0].wait_for_timeout(50)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was sent, each event as often as it was."""
        self.context.pages[0].wait_for_timeout(50)
        return [event for request in self.sent for event in json.loads(request.post_data or "[]")]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The rows of the database, in order of time, once there are so many."""
        self.service.wait_for_events(self.merchant, count)
        rows: list[dict[str, Any]] = []
        for dsn in self.service.world.shards:
            with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
                rows += connection.execute(
                    "SELECT * FROM events WHERE merchant_id = %s ORDER BY ts, event",
                    (self.merchant,),
                ).fetchall()
        assert len(rows) == count
        return rows


def tag(service: Service, key: str, more: str = "") -> str:
    """The snippet as a shop puts it into its pages."""
    return f'<script defer src="{service.url}/footfall.js" data-key="{key}" {more}></script>'


@pytest.fixture
def visited(service: Service, shop: int, browser: Browser) -> Iterator[Shop]:
    """A shop whose pages /, /tea and /quiet carry the snippet."""
    pages: dict[str, str] = {}
    with site(pages) as origin:
        body = {"scopes": ["events:write"], "origins": [origin]}
        made = service.call("POST", f"/v1/merchants/{shop}/keys", key=service.admin, json=body)
        key = made.json()["key"]
        for path in ("/", "/tea"):
            pages[path] = f"<!doctype html><title>{path}</title>{tag(service, key)}"
        pages["/quiet"] = f"<!doctype html>{tag(service, key, 'data-respect-dnt')}"
        context = browser.new_context(user_agent=CHROME)  # a headless one would be a bot's
        seen = Shop(service, shop, key, origin, context)
        context.on("request", lambda r: seen.sent.append(r) if "/v1/events" in r.url else None)
        yield seen
        context.close()


def test_a_page_view_is_counted_with_all_that_is_known_of_it(visited: Shop) -> None:
    visited.visit("/tea?utm_source=newsletter&utm_medium=email")
    (row,) = visited.wait_for(1)
    assert (row["event"], row["page"]) == ("page_view", "/tea")
    assert (row["source"], row["channel"]) == ("newsletter", "Email")
    assert row["session"] is not None
    assert row["event_id"]
    answer = visited.service.ask(visited.merchant, metrics=["visitors", "sessions", "page_views"])
    assert answer["rows"] == [{"visitors": 1, "sessions": 1, "page_views": 1}]


def test_what_a_page_reports_is_an_event_of_its_own(visited: Shop) -> None:
    page = visited.visit()
    page.evaluate(
        """footfall("purchase", {order_id: "1", value: "19.99", currency: "EUR", gift: true,
             items: [{product_id: "teapot", quantity: 2}]})"""
    )
    rows = visited.wait_for(2)
    (row,) = [row for row in rows if row["event"] == "purchase"]
    assert (row["order_id"], row["value_minor"], row["units"]) == ("1", 1999, 2)
    assert row["properties"] == {"gift": True}
    assert row["session"] == rows[0]["session"]


def test_calls_made_before_it_was_loaded_are_not_lost(visited: Shop) -> None:
    page = visited.context.new_page()
    page.add_init_script(
        "window.footfall ||= function () { (footfall.q ||= []).push(arguments) };"
        'footfall("early", {at: 1})'
    )
    page.goto(visited.origin)
    assert {row["event"] for row in visited.wait_for(2)} == {"page_view", "early"}


def test_a_change_of_address_within_a_page_is_a_view(visited: Shop) -> None:
    page = visited.visit()
    page.evaluate('history.pushState(null, "", "/tea?colour=green")')
    page.evaluate('history.pushState(null, "", "/tea?colour=green#details")')  # the same page
    page.go_back()
    page.go_back()
    rows = visited.wait_for(3)
    assert [row["page"] for row in rows] == ["/", "/tea", "/"]
    assert [event["referrer"] for event in visited.events] == [
        "",
        f"{visited.origin}/",
        f"{visited.origin}/tea?colour=green",
    ]


def test_a_session_ends_after_half_an_hour_and_the_visitor_stays(visited: Shop) -> None:
    page = visited.visit()
    page.goto(f"{visited.origin}/tea")
    visited.wait_for(2)
    for minutes in (29, 31):
        page.evaluate(
            """(ms) => { const visit = JSON.parse(localStorage.footfall);
                 visit.last -= ms; localStorage.footfall = JSON.stringify(visit) }""",
            minutes * 60_000,
        )
        page.reload()
    visited.wait_for(4)
    sessions = list({event["event_id"]: event["session_id"] for event in visited.events}.values())
    assert len(set(sessions[:3])) == 1
    assert sessions[3] != sessions[0]
    assert len({event["visitor_id"] for event in visited.events}) == 1


def test_what_did_not_arrive_is_sent_again_and_counts_once(visited: Shop) -> None:
    left = 2

    def lose(route: Route) -> None:
        """The first answer is lost on its way back, the second request on its way there."""
        nonlocal left
        left -= 1
        if left == 1:
            route.fetch()
        if left >= 0:
            route.abort()
        else:
            route.continue_()

    visited.context.route("**/v1/events*", lose)
    page = visited.visit()
    page.wait_for_function("JSON.parse(sessionStorage.footfall).length == 0")
    assert len(visited.sent) == 3
    assert len({(event["event_id"], event["timestamp"]) for event in visited.events}) == 1
    visited.wait_for(1)


def test_the_server_says_when_to_try_again(visited: Shop) -> None:
    answered = False

    def refuse_once(route: Route) -> None:
        nonlocal answered
        if answered:
            route.continue_()
            return
        answered = True
        exposed = {"Access-Control-Allow-Origin": visited.origin}
        exposed |= {"Access-Control-Expose-Headers": "Retry-After", "Retry-After": "2"}
        route.fulfill(status=503, headers=exposed, body="{}")

    visited.context.route("**/v1/events*", refuse_once)
    page = visited.visit()
    began = page.evaluate("performance.now()")
    page.wait_for_function("JSON.parse(sessionStorage.footfall).length == 0")
    assert page.evaluate("performance.now()") - began > 1_800
    visited.wait_for(1)


def test_half_an_emoji_does_not_cost_the_event(visited: Shop) -> None:
    page = visited.visit()
    page.evaluate('footfall("note", {text: "half \\ud83c", whole: "\\ud83e\\uded6"})')
    (row,) = [row for row in visited.wait_for(2) if row["event"] == "note"]
    assert row["properties"] == {"text": "half ", "whole": "\U0001fad6"}


def test_a_refused_batch_is_sent_again_one_by_one(visited: Shop) -> None:
    def refuse(route: Route) -> None:
        """As a server does that cannot read the whole, or one of its events."""
        events = json.loads(route.request.post_data or "[]")
        if len(events) == 1 and events[0]["event"] != "broken":
            route.continue_()
            return
        allowed = {"Access-Control-Allow-Origin": visited.origin}
        route.fulfill(status=400, headers=allowed, body='{"code": "invalid_body"}')

    page = visited.visit()
    visited.wait_for(1)
    visited.context.route("**/v1/events*", refuse)
    page.evaluate("for (const name of ['one', 'two', 'broken', 'three']) footfall(name)")
    page.wait_for_function("JSON.parse(sessionStorage.footfall).length == 0")
    assert {row["event"] for row in visited.wait_for(4)} == {"page_view", "one", "two", "three"}


def test_a_page_that_is_left_hands_its_events_to_a_beacon(visited: Shop) -> None:
    visited.context.add_init_script("window.fetch = () => Promise.reject(new TypeError('away'))")
    page = visited.visit()
    assert len(page.evaluate("JSON.parse(sessionStorage.footfall)")) == 1
    page.goto("about:blank")
    visited.wait_for(1)


def test_the_next_page_sends_what_the_last_one_could_not(visited: Shop) -> None:
    visited.context.route("**/v1/events*", lambda route: route.abort())
    page = visited.visit()
    visited.wait_until_sent()
    visited.context.unroute("**/v1/events*")
    page.goto(f"{visited.origin}/tea")
    assert [row["page"] for row in visited.wait_for(2)] == ["/", "/tea"]


def test_it_is_silent_where_the_browser_asks_for_it(visited: Shop) -> None:
    visited.context.add_init_script(
        "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})"
    )
    page = visited.visit("/quiet")
    page.evaluate('footfall("signup")')
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    assert visited.sent == []
    visited.visit("/")  # this page does not ask to be silent
    visited.wait_for(1)


def test_it_works_where_nothing_may_be_stored(visited: Shop) -> None:
    visited.context.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"])
             Object.defineProperty(window, name, {get() { throw new Error("refused") }})"""
    )
    page = visited.visit()
    page.evaluate('footfall("signup")')
    rows = visited.wait_for(2)
    assert len({row["session"] for row in rows}) == 1


def test_pages_of_another_origin_cannot_use_the_key(visited: Shop) -> None:
    page = visited.context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(visited.origin.replace("127.0.0.1", "localhost"))
    visited.wait_until_sent()
    page.wait_for_function("JSON.parse(sessionStorage.footfall).length == 1")
    page.wait_for_timeout(200)
    assert any("Access-Control-Allow-Origin" in text for text in refused)
    visited.visit("/tea")
    assert [row["page"] for row in visited.wait_for(1)] == ["/tea"]


def test_it_is_small_and_kept_by_caches(service: Service) -> None:
    got = httpx.get(f"{service.url}/footfall.js", headers={"Accept-Encoding": "gzip"})
    assert got.status_code == 200
    assert got.headers["content-type"] == "text/javascript; charset=utf-8"
    assert got.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "max-age=3600" in got.headers["cache-control"]
    assert len(got.content) <= 2_100
    assert len(gzip.compress(got.content, 9)) <= 1_250
    again = httpx.get(f"{service.url}/footfall.js", headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
