"""What the API answers, as values. Members that a newer server adds are left out, not refused."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec


class Money(msgspec.Struct, frozen=True):
    """An exact amount."""

    amount: Decimal
    currency: str


class Meta(msgspec.Struct, frozen=True):
    """How far an answer can be relied on."""

    fresh_as_of: datetime | None  # every event logged up to then is in the numbers
    complete: bool
    source: str
    logic_version: int | None
    approximate: dict[str, Any] = {}
    warnings: list[Any] = []


class Answer(msgspec.Struct, frozen=True):
    """Rows by dimension and time. A metric is a number, None, or money as `{"amount", "currency"}`:
    `money` reads the latter."""

    rows: list[dict[str, Any]]
    meta: Meta
    query: dict[str, Any]
    totals: dict[str, Any] | None = None
    comparison: dict[str, Any] | None = None
    next_cursor: str | None = None

    @staticmethod
    def money(value: dict[str, str]) -> Money:
        """A row's revenue, say, as an exact amount."""
        return msgspec.convert(value, Money)


class Rejected(msgspec.Struct, frozen=True):
    """An event that was not accepted, and why: `index` is its place in what was sent."""

    index: int
    field: str | None
    reason: str
    detail: str


class Sent(msgspec.Struct, frozen=True):
    """What became of events: the accepted ones are on disk."""

    accepted: int
    rejected: list[Rejected] = []
