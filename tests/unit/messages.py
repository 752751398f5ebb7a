"""Events as producers write them, for tests of the pure middle."""

import json
from typing import Any

import numpy as np

from events.batch import Messages

NOW_MS = 1_790_000_000_000  # 2026-09-21T14:13:20Z
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def event(**fields: Any) -> dict[str, Any]:
    """A good event with these fields; a field set to ... is left out."""
    whole = {
        "merchant_id": 7,
        "event": "page_view",
        "timestamp": NOW_MS,
        "event_id": "e-1",
        "visitor_id": "v-1",
        "user_agent": CHROME,
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def raw(**fields: Any) -> bytes:
    """The same as a message's value."""
    return json.dumps(event(**fields)).encode()


def batch(values: list[bytes | None], logged_ms: int = NOW_MS) -> Messages:
    """Messages of partition 0 in a row."""
    count = len(values)
    return Messages(
        values,
        np.zeros(count, np.int32),
        np.arange(100, 100 + count, dtype=np.int64),
        np.full(count, logged_ms, np.int64),
    )
