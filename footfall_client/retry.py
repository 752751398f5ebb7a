"""When to try again, and when to give up: a conversation that does no I/O of its own."""

import random
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from footfall_client.problem import Problem

_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and how long at most, to try."""

    tries: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0


STANDARD: Final = Patience()

# Yields how long to wait before the next try; is sent what came of a try.
Tries = Generator[float, "httpx.Response | httpx.TransportError", httpx.Response]


def tries(patience: Patience) -> Tries:
    """Say how long to wait before each try until one is good; that answer is returned.

    Everything may be asked again: questions change nothing, and events bear their ids.

    Raises:
        Problem: the server refused for good, or still refuses at the last try, or wants more
            patience than there is.
        httpx.TransportError: the server could not be reached at the last try.
    """
    wait = 0.0
    for number in range(1, patience.tries + 1):
        outcome = yield wait
        last = number == patience.tries
        backoff = min(patience.longest_wait_s, patience.first_wait_s * 2 ** (number - 1))
        wait = backoff * random.uniform(0.5, 1)  # noqa: S311 - so that clients do not march in step
        if isinstance(outcome, httpx.TransportError):
            if last:
                raise outcome
            continue
        if outcome.is_success:
            return outcome
        asked = _retry_after(outcome)
        if last or outcome.status_code not in _AGAIN or (asked or 0) > patience.longest_wait_s:
            raise Problem(outcome.status_code, outcome.content, asked)
        wait = max(wait, asked or 0)
    raise ValueError("tries is at least 1")


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds, of either form of the header."""
    given = answer.headers.get("Retry-After")
    if given is None:
        return None
    if given.strip().isdigit():
        return float(given)
    try:
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
