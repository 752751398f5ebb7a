"""The merchant's page in a real browser, over the real service."""

import gzip
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response, expect

from tests.browser.chromium import chromium
from tests.service import Service, page_view

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MAX_PACKED_BYTES = 200 * 1024


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of this module alone: it has an event loop of its own that others must not meet."""
    with chromium() as running:
        yield running


def where_it_is_noon() -> str:
    """A zone in which no midnight can fall into a test."""
    east = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-east:+d}"  # these names count westwards


@pytest.fixture(scope="module")
def filled(service: Service) -> int:
    """A shop with three visitors of two countries today, an order, and one visitor a week ago."""
    shop = service.merchant(timezone=where_it_is_noon())
    now = int(time.time() * 1000)
    strange = "/<img src=x onerror=document.title='broken'>"
    service.send(
        shop,
        page_view(visitor_id="a", session_id="a", country="DE", referrer="https://google.com/"),
        page_view(visitor_id="b", session_id="b", country="DE", url="https://shop.example/tea"),
        page_view(visitor_id="c", session_id="c", country="FR", url="https://s.example" + strange),
        page_view(
            visitor_id="d", session_id="d", country="FR", timestamp=now - 7 * DAY_MS - 2 * HOUR_MS
        ),
        page_view(
            event="purchase",
            visitor_id="a",
            session_id="a",
            country="DE",
            order_id="1",
            value="1234.50",
            currency="EUR",
            product_id="teapot",
        ),
    )
    service.wait_until_fresh(shop)
    return shop


@dataclass(slots=True)
class Visit:
    """A tab at the merchant's page, and what its console said."""

    page: Page
    service: Service
    said: list[str] = field(default_factory=list)

    def enter(self, key: str) -> None:
        """Sign in."""
        self.page.get_by_label("Read key").fill(key)
        self.page.get_by_role("button", name="Show my shop").click()

    def number(self, metric: str) -> str:
        """What a card shows, once the page has been answered."""
        expect(self.page.locator("#shop")).to_have_attribute("aria-busy", "false")
        return self.page.locator(f"[data-metric={metric}] .number").inner_text()


@pytest.fixture
def visit(service: Service, browser: Browser) -> Iterator[Visit]:
    """At the door."""
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    seen = Visit(page, service)
    page.on("console", lambda message: seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.goto(service.url)
    yield seen
    context.close()


def test_a_read_key_shows_the_shops_numbers(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    assert visit.number("visitors") == "4"
    assert visit.number("sessions") == "4"
    assert visit.number("orders") == "1"
    assert visit.number("revenue") == "€1,235"
    assert visit.number("conversion_rate") == "25.0%"
    expect(visit.page.locator("#fresh")).to_contain_text(where_it_is_noon()[:8])
    expect(visit.page.get_by_role("button", name="/tea")).to_be_visible()
    expect(visit.page.get_by_role("button", name="teapot")).to_be_visible()
    expect(visit.page.get_by_role("button", name="Germany")).to_be_visible()
    expect(visit.page.locator("#chart canvas")).to_be_visible()
    expect(visit.page.locator("#now .present")).to_contain_text("3 visitors in the last 5 minutes")
    expect(visit.page.get_by_role("link", name="3 now")).to_be_visible()
    assert visit.said == []


def test_the_key_stays_in_the_tab_and_out_of_every_address(visit: Visit, filled: int) -> None:
    key = visit.service.key(filled)
    addresses: list[str] = []
    visit.page.on("request", lambda request: addresses.append(request.url))
    visit.enter(key)
    visit.number("visitors")
    visit.page.get_by_role("button", name="7 days").click()
    visit.page.reload()
    assert visit.number("visitors") == "3"  # still signed in
    assert len(addresses) > 10
    assert not [address for address in addresses if key in address]
    assert key not in visit.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    visit.page.get_by_role("button", name="Sign out").click()
    expect(visit.page.get_by_label("Read key")).to_be_focused()
    assert visit.page.evaluate("sessionStorage.length") == 0
    visit.page.reload()
    expect(visit.page.get_by_label("Read key")).to_be_visible()


@pytest.mark.parametrize("kind", ["wrong", "admin", "write"])
def test_a_key_that_will_not_do_is_refused_with_a_reason(
    visit: Visit, filled: int, kind: str
) -> None:
    body = {"scopes": ["events:write"]}
    made = visit.service.call(
        "POST", f"/v1/merchants/{filled}/keys", key=visit.service.admin, json=body
    )
    keys = {"wrong": "ff_x", "admin": visit.service.admin, "write": made.json()["key"]}
    said = {"wrong": "no such key", "admin": "operator's key", "write": "stats:read"}
    visit.enter(keys[kind])
    expect(visit.page.get_by_role("alert").filter(has_text=said[kind])).to_be_visible()
    assert visit.page.evaluate("sessionStorage.length") == 0


def test_a_row_pressed_filters_everything_and_lets_go_again(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    visit.page.get_by_role("button", name="Germany").click()
    chip = visit.page.get_by_role("button", name="Remove the filter Country is Germany")
    expect(chip).to_be_visible()
    assert visit.number("visitors") == "2"
    assert visit.number("conversion_rate") == "50.0%"
    expect(visit.page.get_by_text("Products cannot be counted by country.")).to_be_visible()
    visit.page.get_by_role("button", name="/tea").click()
    assert visit.number("visitors") == "1"
    assert visit.number("sessions") == "\N{EN DASH}"  # a session is of no single page
    visit.page.go_back()
    assert visit.number("visitors") == "2"
    chip.click()
    expect(chip).to_have_count(0)
    assert visit.number("visitors") == "4"


def test_periods_are_the_shops_days(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    visit.page.get_by_role("button", name="Today").click()
    assert visit.number("visitors") == "3"
    visit.page.get_by_text("Range").click()
    zone = ZoneInfo(where_it_is_noon())
    day = (datetime.now(zone) - timedelta(days=7)).date().isoformat()
    visit.page.get_by_label("From", exact=True).fill(day)
    visit.page.get_by_label("To", exact=True).fill(day)
    visit.page.get_by_role("button", name="Show", exact=True).click()
    assert visit.number("visitors") == "1"
    assert f"range={day}%2C{day}" in visit.page.url
    visit.page.get_by_role("button", name="7 days").click()
    assert visit.number("visitors") == "3"
    change = visit.page.locator("[data-metric=visitors] .change")
    expect(change).to_contain_text("up 200% on the period before")


def test_the_chart_can_be_read_by_keyboard_and_as_a_table(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    visit.number("visitors")
    visit.page.locator("[data-metric=revenue]").click()
    plot = visit.page.get_by_role("img", name=re.compile("Revenue, 28 points"))
    plot.focus()
    visit.page.keyboard.press("End")
    expect(visit.page.locator(".tip")).to_contain_text("€1,234.50 so far")
    visit.page.keyboard.press("ArrowLeft")
    expect(visit.page.locator(".tip strong")).to_have_text("€0.00")
    visit.page.get_by_text("Show as a table").click()
    expect(visit.page.locator(".as-table tbody tr")).to_have_count(28)
    expect(visit.page.locator(".as-table tbody tr").last).to_contain_text("€1,234.50")


def test_without_the_chart_library_the_numbers_are_in_the_table(visit: Visit, filled: int) -> None:
    visit.page.route("**/uPlot.iife.min.js", lambda route: route.abort())
    visit.page.reload()
    visit.enter(visit.service.key(filled))
    expect(visit.page.get_by_text("The chart could not be loaded.")).to_be_visible()
    expect(visit.page.locator(".as-table tbody tr").last).to_contain_text("3")


def test_what_a_shop_sends_never_becomes_code(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    visit.number("visitors")
    expect(visit.page.get_by_role("button", name="/<img src=x")).to_be_visible()
    assert "broken" not in visit.page.title()
    visit.page.evaluate(
        """() => { const script = document.createElement("script");
             script.textContent = "document.title = 'broken'"; document.body.append(script) }"""
    )
    assert "broken" not in visit.page.title()
    assert any("Content Security Policy" in text for text in visit.said)


def test_a_shop_without_events_is_told_how_to_send_some(visit: Visit, shop: int) -> None:
    visit.enter(visit.service.key(shop))
    assert visit.number("visitors") == "0"
    expect(visit.page.get_by_text("No events in this period.")).to_be_visible()
    expect(visit.page.locator("#empty pre")).to_contain_text("/footfall.js")
    expect(visit.page.get_by_text("Nothing in this period.")).to_have_count(5)


def test_trouble_is_said_and_ends_by_itself(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    visit.number("visitors")
    problem = '{"code": "shard_away", "detail": "The database does not answer."}'
    visit.page.route(
        "**/v1/query",
        lambda route: route.fulfill(status=503, headers={"Retry-After": "1"}, body=problem),
    )
    visit.page.get_by_role("button", name="7 days").click()
    alert = visit.page.get_by_role("alert").filter(has_text="The database does not answer.")
    expect(alert).to_contain_text("Trying again in 1 s.")
    visit.page.unroute("**/v1/query")
    expect(alert).to_have_count(0)
    assert visit.number("visitors") == "3"


def test_a_key_revoked_meanwhile_leads_to_the_door(visit: Visit, filled: int) -> None:
    body = {"scopes": ["stats:read"]}
    path = f"/v1/merchants/{filled}/keys"
    made = visit.service.call("POST", path, key=visit.service.admin, json=body).json()
    visit.enter(made["key"])
    visit.number("visitors")
    visit.service.call("DELETE", f"{path}/{made['key_id']}", key=visit.service.admin)
    for _ in range(30):
        visit.page.get_by_role("button", name="28 days").click()
        visit.page.wait_for_timeout(500)
        if visit.page.get_by_label("Read key").is_visible():
            break
    expect(visit.page.get_by_text("This key was revoked")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everyone_can_use_it(
    service: Service, browser: Browser, filled: int, scheme: str, width: int
) -> None:
    context = browser.new_context(
        locale="en-GB",  # not the machine's: a server's may be one that no browser has
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
        bypass_csp=True,  # the examiner is a script of its own
    )
    page = context.new_page()
    page.goto(service.url)
    visit = Visit(page, service)
    expect(page.get_by_label("Read key")).to_be_visible()  # the page is drawn by a script
    door = Axe().run(page)
    assert door.violations_count == 0, door.generate_report()
    visit.enter(service.key(filled))
    visit.page.get_by_role("button", name="Germany").click()
    visit.number("visitors")
    page.wait_for_timeout(500)
    shop = Axe().run(page)
    assert shop.violations_count == 0, shop.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_all_of_it_is_small(visit: Visit, filled: int) -> None:
    loaded: list[Response] = []
    visit.page.on("response", lambda response: loaded.extend([response]))
    visit.page.reload()
    visit.enter(visit.service.key(filled))
    visit.number("visitors")
    files = [each for each in loaded if "/v1/" not in each.url and each.status == 200]
    again = [each for each in loaded if each.status == 304]
    assert len(files) + len(again) >= 14
    packed = sum(
        len(gzip.compress(visit.page.request.get(each.url).body(), 9)) for each in files + again
    )
    assert packed < MAX_PACKED_BYTES, packed
    assert packed < 60_000, packed  # what it was when it was made, and some room


def test_the_theme_can_be_chosen_and_is_kept(visit: Visit, filled: int) -> None:
    visit.enter(visit.service.key(filled))
    visit.number("visitors")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(ground)
    button = visit.page.get_by_role("button", name=re.compile("Colours"))
    button.click()
    button.click()
    expect(button).to_contain_text("Dark")
    assert visit.page.evaluate(ground) != light
    visit.page.reload()
    assert visit.page.evaluate("document.documentElement.dataset.theme") == "dark"
