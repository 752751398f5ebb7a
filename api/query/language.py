"""The query language: what clients write, checked and resolved into a `Question`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from api.problems import invalid, unknown
from api.query.catalogue import DIMENSIONS, INTERVALS, METRICS, SESSION_DIMENSIONS
from api.query.periods import Period, resolve, zone
from events.money import EXPONENTS

MAX_ROWS: Final = 10_000
MAX_FILTERS: Final = 50
MAX_VALUES: Final = 500
OPERATORS: Final = ("is", "is_not", "contains", "contains_not", "matches_prefix")
Operator = Literal["is", "is_not", "contains", "contains_not", "matches_prefix"]


class Include(msgspec.Struct, forbid_unknown_fields=True):
    """What an answer holds beside its rows."""

    comparison: Literal["previous_period"] | None = None
    totals: bool = False


class QueryBody(msgspec.Struct, forbid_unknown_fields=True):
    """A question, as clients write it."""

    metrics: list[str]
    date_range: str | list[str] = "28d"
    merchant_id: int | None = None
    dimensions: list[str] = []
    filters: list[Any] = []
    timezone: str | None = None
    currency: str | None = None
    order_by: list[tuple[str, Literal["asc", "desc"]]] = []
    limit: int = 100
    cursor: str | None = None
    include: Include = msgspec.field(default_factory=Include)


@dataclass(frozen=True, slots=True)
class Match:
    """A condition on one dimension."""

    operator: Operator
    dimension: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Combined:
    """Conditions joined by and/or, or one negated."""

    how: Literal["and", "or", "not"]
    parts: tuple["Match | Combined", ...]


Filter = Match | Combined


@dataclass(frozen=True, slots=True)
class Question:
    """A question that can be answered: names known, range resolved."""

    merchant_id: int
    metrics: tuple[str, ...]
    period: Period
    interval: str | None  # of the time dimension
    dimensions: tuple[str, ...]  # without time
    where: Combined
    currency: str
    order_by: tuple[tuple[str, str], ...]
    limit: int
    offset: int
    include: Include

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of an answer's columns, dimensions first."""
        return (*(("time",) if self.interval else ()), *self.dimensions, *self.metrics)

    @property
    def filtered(self) -> frozenset[str]:
        """The dimensions that filters name."""
        return frozenset(match.dimension for match in matches(self.where))


def matches(where: Filter) -> list[Match]:
    """All conditions within a filter."""
    if isinstance(where, Match):
        return [where]
    return [match for part in where.parts for match in matches(part)]


def _check_metrics(names: list[str]) -> None:
    if not names:
        raise invalid("metrics", "Name at least one metric.")
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    if len(set(names)) < len(names):
        raise invalid("metrics", "Name each metric once.")


def _dimensions(names: list[str]) -> tuple[str | None, tuple[str, ...]]:
    """The time interval, if one is asked for, and the other dimensions."""
    intervals = [name.removeprefix("time:") for name in names if name.startswith("time:")]
    for interval in intervals:
        if interval not in INTERVALS:
            raise unknown("dimension", f"time:{interval}", [f"time:{each}" for each in INTERVALS])
    if len(intervals) > 1:
        raise invalid("dimensions", "Ask for one time dimension at a time.")
    dimensions = tuple(name for name in names if not name.startswith("time:"))
    for name in dimensions:
        if name not in DIMENSIONS:
            raise unknown("dimension", name, DIMENSIONS)
    if len(set(dimensions)) < len(dimensions):
        raise invalid("dimensions", "Name each dimension once.")
    return intervals[0] if intervals else None, dimensions


def understand(
    body: QueryBody, merchant_id: int, timezone: str, currency: str, now: datetime
) -> Question:
    """Check a body and resolve it, with the merchant's own zone and currency where it names none.

    Raises:
        ProblemDetailsException: it cannot be understood; the sentence says how to mend it.
    """
    _check_metrics(body.metrics)
    interval, dimensions = _dimensions(body.dimensions)
    if not 1 <= body.limit <= MAX_ROWS:
        raise invalid("limit", f"limit is from 1 to {MAX_ROWS}.")
    chosen = body.currency or currency
    if chosen not in EXPONENTS:
        raise unknown("currency", chosen, EXPONENTS)
    period = resolve(body.date_range, zone(body.timezone or timezone), now)
    question = Question(
        merchant_id=merchant_id,
        metrics=tuple(body.metrics),
        period=period,
        interval=interval,
        dimensions=dimensions,
        where=Combined("and", tuple(_filter(each, 0) for each in body.filters)),
        currency=chosen,
        order_by=tuple(body.order_by),
        limit=body.limit,
        offset=_offset(body.cursor),
        include=body.include,
    )
    if len(matches(question.where)) > MAX_FILTERS:
        raise invalid("filters", f"At most {MAX_FILTERS} conditions.")
    for name, _ in question.order_by:
        if name not in question.columns:
            raise invalid("order_by", f"{name[:80]!r} is not among the columns asked for.")
    period.check_points(question.interval)
    _check_together(question)
    return question


def _filter(given: Any, depth: int) -> Filter:
    if depth > 5:
        raise invalid("filters", "Filters are nested too deeply.")
    match given:
        case ["and" | "or" as how, [_, *_] as parts]:
            return Combined(how, tuple(_filter(part, depth + 1) for part in parts))
        case ["not", part]:
            return Combined("not", (_filter(part, depth + 1),))
        case [str(operator), str(dimension), values]:
            if operator not in OPERATORS:
                raise unknown("operator", operator, [*OPERATORS, "and", "or", "not"])
            if dimension not in DIMENSIONS:
                raise unknown("dimension", dimension, DIMENSIONS)
            listed = values if isinstance(values, list) else [values]
            if not listed or len(listed) > MAX_VALUES or not all(_is_text(v) for v in listed):
                raise invalid("filters", f"{operator} takes 1 to {MAX_VALUES} strings.")
            return Match(operator, dimension, tuple(listed))  # type: ignore[arg-type]  # checked above
    raise invalid("filters", 'A filter is ["is", "country", ["DE", "FR"]], or and/or/not of some.')


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and len(value) <= 2048


def _offset(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 7):
        raise invalid("cursor", "Give next_cursor of the answer before, unchanged.")
    return int(cursor)


def _check_together(question: Question) -> None:
    used = set(question.dimensions) | question.filtered
    groups = {METRICS[name].group for name in question.metrics}
    if "product" in used and (groups != {"event"} or used - {"product", "event"}):
        raise invalid(
            "dimensions", "product goes with event metrics, and with the dimensions time and event."
        )
    if "session" in groups and used - SESSION_DIMENSIONS:
        other = ", ".join(sorted(used - SESSION_DIMENSIONS))
        raise invalid(
            "dimensions",
            f"Session metrics go with {', '.join(sorted(SESSION_DIMENSIONS))}; not with {other}.",
        )
