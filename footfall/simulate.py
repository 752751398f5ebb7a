"""Shops with believable days: sessions that browse, fill carts and buy; retries, late and broken
events, bots. It knows what it made, so that what comes out can be held against it."""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

DAY_MS: Final = 86_400_000
_SOURCES: Final = (
    ("", "", 30),
    ("", "https://www.google.com/", 25),
    ("utm_source=newsletter&utm_medium=email&utm_campaign=autumn", "", 10),
    ("utm_source=google&utm_medium=cpc&utm_campaign=brand&gclid=x1", "https://www.google.com/", 12),
    ("", "https://www.instagram.com/", 8),
    ("utm_source=facebook&utm_medium=paid_social", "https://l.facebook.com/", 6),
    ("", "https://blog.example.org/gifts", 6),
    ("", "https://chatgpt.com/", 3),
)
_AGENTS: Final = (
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Safari/537.36"
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
        "Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
    ),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36"
    ),
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:143.0) Gecko/20100101 Firefox/143.0",
)
_BOT: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_COUNTRIES: Final = (("DE", 40), ("FR", 20), ("AT", 10), ("CH", 8), ("US", 15), ("JP", 7))
_BROKEN: Final = (
    b"{not json",
    b'{"merchant_id": %d}',
    b'{"merchant_id": %d, "event": "Page View", "visitor_id": "v"}',
    b'{"merchant_id": %d, "event": "page_view", "visitor_id": "v", "timestamp": "soon"}',
    b'{"merchant_id": %d, "event": "purchase", "visitor_id": "v", "value": 1, "currency": "EUR"}',
)
Message = tuple[bytes, bytes]


@dataclass(slots=True)
class Made:
    """What was made for one merchant, counted by the definitions."""

    counts: Counter[str] = field(default_factory=Counter)
    revenue_minor: int = 0
    visitors: set[str] = field(default_factory=set)
    sessions: set[tuple[str, int]] = field(default_factory=set)  # (session, UTC day)
    orders: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Tally:
    """What was made in all."""

    merchants: dict[int, Made] = field(default_factory=dict)
    messages: int = 0
    stored: int = 0
    broken: int = 0
    retries: int = 0


class Shops:
    """A few shops of different sizes, from one seed."""

    def __init__(self, merchants: list[int], seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation wants a seed
        self._merchants = merchants
        self._number = 0
        self.tally = Tally({merchant: Made() for merchant in merchants})

    def messages(self, count: int, start_ms: int, end_ms: int) -> Iterator[Message]:
        """So many messages, their times spread over [start, end) as shops' days are."""
        target = self.tally.messages + count
        while self.tally.messages < target:
            for message in self.session(self._moment(start_ms, end_ms), end_ms):
                if self.tally.messages >= target:
                    return
                yield from self._with_trouble(message, target)

    def session(self, at_ms: int, end_ms: int) -> list[dict[str, Any]]:
        """The events of one visit, in order."""
        rng = self._random
        merchant = self._merchants[min(int(rng.expovariate(0.9)), len(self._merchants) - 1)]
        self._number += 1
        session = f"s{self._number}"
        visitor = f"v{rng.randrange(3000)}" if rng.random() < 0.4 else f"n{self._number}"
        query, referrer, _ = rng.choices(_SOURCES, [weight for *_, weight in _SOURCES])[0]
        bot = rng.random() < 0.02
        common = {
            "merchant_id": merchant,
            "visitor_id": visitor,
            "session_id": session,
            "user_agent": _BOT if bot else rng.choice(_AGENTS),
            "country": rng.choices([c for c, _ in _COUNTRIES], [w for _, w in _COUNTRIES])[0],
        }
        host = f"https://shop{merchant}.example"
        events: list[dict[str, Any]] = []

        def add(event: str, path: str, **more: Any) -> None:
            nonlocal at_ms
            landing = not events
            url = f"{host}{path}" + (f"?{query}" if landing and query else "")
            events.append(
                {
                    **common,
                    "event": event,
                    "event_id": f"{self._number:x}-{len(events)}",
                    "timestamp": min(at_ms, end_ms - 1),
                    "url": url,
                    "referrer": referrer if landing else f"{host}/",
                    **more,
                }
            )
            at_ms += rng.randrange(2_000, 90_000)

        add("page_view", rng.choice(["/", "/", "/sale", "/new", "/gifts"]))
        while rng.random() < 0.62 and len(events) < 30:
            product = f"p{int(rng.paretovariate(1.2)) % 200}"
            add("page_view", f"/p/{product}")
            add("view_item", f"/p/{product}", product_id=product)
            if rng.random() < 0.22:
                add("add_to_cart", f"/p/{product}", product_id=product)
                if rng.random() < 0.5:
                    add("begin_checkout", "/checkout")
                    if rng.random() < 0.7:
                        self._purchase(add, product)
        return events

    def _purchase(self, add: Any, product: str) -> None:
        quantity, price = self._random.randrange(1, 4), self._random.randrange(500, 9900)
        add(
            "purchase",
            "/thanks",
            order_id=f"o{self._number}",
            value=f"{quantity * price / 100:.2f}",
            currency="EUR",
            items=[{"product_id": product, "quantity": quantity, "price": f"{price / 100:.2f}"}],
        )

    def _with_trouble(self, event: dict[str, Any], target: int) -> Iterator[Message]:
        """The event as a message; now and then sent twice, or followed by a broken one."""
        merchant = event["merchant_id"]
        key, value = str(merchant).encode(), json.dumps(event).encode()
        self._count(event)
        yield key, value
        if self._random.random() < 0.01 and self.tally.messages < target:
            self.tally.messages += 1
            self.tally.retries += 1
            yield key, value
        if self._random.random() < 0.01 and self.tally.messages < target:
            self.tally.messages += 1
            self.tally.broken += 1
            broken = self._random.choice(_BROKEN)
            yield key, broken.replace(b"%d", key)

    def _count(self, event: dict[str, Any]) -> None:
        self.tally.messages += 1
        self.tally.stored += 1
        if event["user_agent"] == _BOT:
            return
        made = self.tally.merchants[event["merchant_id"]]
        made.counts["events"] += 1
        made.counts[event["event"]] += 1
        made.visitors.add(event["visitor_id"])
        made.sessions.add((event["session_id"], event["timestamp"] // DAY_MS))
        if event["event"] == "purchase" and event["order_id"] not in made.orders:
            made.orders.add(event["order_id"])
            made.revenue_minor += round(float(event["value"]) * 100)
            made.counts["units"] += event["items"][0]["quantity"]

    def _moment(self, start_ms: int, end_ms: int) -> int:
        """A time within the range, more likely in the evening than at night."""
        while True:
            at = self._random.randrange(start_ms, end_ms)
            hour = at % DAY_MS / 3_600_000
            if self._random.random() < 0.55 - 0.45 * math.cos((hour - 4) / 24 * 2 * math.pi):
                return at
