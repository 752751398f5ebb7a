"""The query language: what clients write, checked and resolved into a `Question`."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from api.problems import invalid, unknown
from api.query import cursor as cursors
from api.query.catalogue import DIMENSIONS, INTERVALS, METRICS, SESSION_DIMENSIONS
from api.query.periods import MAX_DAYS, Period, resolve, zone
from events.money import EXPONENTS

MAX_ROWS: Final = 10_000
DEFAULT_ROWS: Final = 100
MAX_FILTERS: Final = 50
MAX_VALUES: Final = 500
RAW_ROWS: Final = 20_000_000  # what a question of raw rows may read
OPERATORS: Final = ("is", "is_not", "contains", "contains_not", "matches_prefix")
Operator = Literal["is", "is_not", "contains", "contains_not", "matches_prefix"]


class Include(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What an answer holds beside its rows."""

    comparison: Literal["previous_period"] | None = None
    totals: bool = False
    other: bool = False  # one row more, of all that the limit left out


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
    limit: int | None = None  # 100; of a file all rows
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
    include: Include
    after: tuple[Any, ...] | None = None  # the sorting values of the last row of the page before
    raw_rows: int = RAW_ROWS
    raw_days: int = 365  # how long raw events are kept
    # UTC days whose rollups are behind their rows, which history was just replaced in
    replaced: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the columns that tell rows apart."""
        return (*(("time",) if self.interval else ()), *self.dimensions)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of an answer's columns, dimensions first."""
        return (*self.keys, *self.metrics)

    @property
    def sorting(self) -> tuple[tuple[str, str], ...]:
        """The whole order of the rows: as asked for, then by the keys, so that no two tie."""
        wanted = self.order_by
        if not wanted and not self.interval:
            wanted = ((self.metrics[0], "desc"),)
        named = {name for name, _ in wanted}
        return (*wanted, *((key, "asc") for key in self.keys if key not in named))

    @property
    def is_series(self) -> bool:
        """Whether the rows are all buckets of the range, in order, empty ones too."""
        return self.interval is not None and not self.dimensions and not self.order_by

    @property
    def totals_are_sums(self) -> bool:
        """Whether all rows are on the page and their sums are the totals."""
        if not self.keys:
            return True
        if not self.is_series or not all(METRICS[name].adds_up for name in self.metrics):
            return False
        assert self.interval is not None  # noqa: S101 - a series has one
        return self.after is None and len(self.period.buckets(self.interval)) <= self.limit

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
    limit = DEFAULT_ROWS if body.limit is None else body.limit
    if not 1 <= limit <= MAX_ROWS:
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
        where=read_filters(body.filters),
        currency=chosen,
        order_by=tuple(body.order_by),
        limit=limit,
        include=body.include,
    )
    for name, _ in question.order_by:
        if name not in question.columns:
            raise invalid("order_by", f"{name[:80]!r} is not among the columns asked for.")
    if len({name for name, _ in question.order_by}) < len(question.order_by):
        raise invalid("order_by", "Name each column once.")
    if body.include.other and (not dimensions or interval or body.cursor):
        raise invalid(
            "include", "other goes with dimensions other than time, and with the first page."
        )
    period.check_points(question.interval)
    _check_together(question)
    return question if body.cursor is None else _continued(question, body.cursor)


def read_filters(given: list[Any]) -> Combined:
    """A list of filters, all of which must hold.

    Raises:
        ProblemDetailsException: 400, one of them cannot be understood.
    """
    where = Combined("and", tuple(_filter(each, 0) for each in given))
    if len(matches(where)) > MAX_FILTERS:
        raise invalid("filters", f"At most {MAX_FILTERS} conditions.")
    return where


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


def _continued(question: Question, text: str) -> Question:
    """The question, from where the page before ended."""
    cursor = cursors.read(text)
    if cursor.question != cursors.fingerprint(question):
        raise cursors.foreign()
    start, end = cursors.instant(cursor.start), cursors.instant(cursor.end)
    if not start < end or end - start > timedelta(days=MAX_DAYS):
        raise cursors.foreign()
    question = replace(question, period=Period(start, end, question.period.zone))
    question.period.check_points(question.interval)
    return replace(question, after=cursors.last_row(question, cursor.last))


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
