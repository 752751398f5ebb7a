"""How many visitors go through steps in order, each within a window after the first.

A closed funnel counts a visitor at a step who did all steps before it, in order, the first of them
at most the window ago; any of their first steps may begin it. An open one counts whoever did the
step, and beside it who came to it from the step before within the window. Steps follow one another
by time, and by place in the log where times are equal; one event is one step. Visitors are counted
by id, exactly.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from api.problems import invalid
from api.query import written
from api.query.freshness import Freshness
from api.query.language import RAW_ROWS, Combined, matches, read_filters
from api.query.meta import meta
from api.query.periods import Period, resolve, zone
from api.query.place import Place, check_cost, fetch
from api.query.sql import Statement, affordable, condition
from api.query.trip import told_with
from events.check import EVENT_NAME

MAX_WINDOW_S: Final = 90 * 86_400


class StepBody(msgspec.Struct, forbid_unknown_fields=True):
    """One step: an event, and filters on what it bears."""

    event: str
    filters: list[Any] = []
    name: str | None = None


class FunnelBody(msgspec.Struct, forbid_unknown_fields=True):
    """A funnel, as clients write it."""

    steps: list[StepBody]
    date_range: str | list[str] = "28d"
    window_seconds: int = 86_400
    kind: Literal["closed", "open"] = "closed"
    filters: list[Any] = []
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """An event that fits a step."""

    name: str
    event: str
    where: Combined


@dataclass(frozen=True, slots=True)
class Funnel:
    """A funnel that can be counted."""

    merchant_id: int
    steps: tuple[Step, ...]
    period: Period
    window: timedelta
    kind: Literal["closed", "open"]
    where: Combined
    raw_rows: int = RAW_ROWS


def understand(body: FunnelBody, merchant_id: int, timezone: str, now: datetime) -> Funnel:
    """Check a body and resolve it.

    Raises:
        ProblemDetailsException: it cannot be understood; the sentence says how to mend it.
    """
    if not 2 <= len(body.steps) <= 8:
        raise invalid("steps", "A funnel has 2 to 8 steps.")
    if not 1 <= body.window_seconds <= MAX_WINDOW_S:
        raise invalid("window_seconds", f"The window is 1 to {MAX_WINDOW_S} seconds.")
    return Funnel(
        merchant_id,
        tuple(_step(step) for step in body.steps),
        resolve(body.date_range, zone(body.timezone or timezone), now),
        timedelta(seconds=body.window_seconds),
        body.kind,
        without_products(body.filters),
    )


def _step(body: StepBody) -> Step:
    if not EVENT_NAME.fullmatch(body.event):
        raise invalid("steps", f"{body.event[:80]!r} is no event's name: [a-z][a-z0-9_]{{0,63}}.")
    if body.name is not None and not 1 <= len(body.name) <= 200:
        raise invalid("steps", "A step's name has 1 to 200 characters.")
    return Step(body.name or body.event, body.event, without_products(body.filters))


def without_products(given: list[Any]) -> Combined:
    """Filters on what an event itself bears.

    Raises:
        ProblemDetailsException: 400.
    """
    where = read_filters(given)
    if any(match.dimension == "product" for match in matches(where)):
        raise invalid("filters", "product is of an event's items: filter by page or event here.")
    return where


def count_visitors(funnel: Funnel, place: Place) -> Statement:
    """One row: `reached`, the visitors at each step, and `continued`, those of them who came from
    the step before."""
    statement = Statement()
    bounds = (
        statement.parameter(funnel.merchant_id, "int8"),
        statement.parameter(funnel.period.start, "timestamptz"),
        statement.parameter(funnel.period.end, "timestamptz"),
    )
    names = statement.parameter(sorted({step.event for step in funnel.steps}), "text[]")
    fits = [
        f"(event = {statement.parameter(step.event, 'text')} "
        f"AND {condition(step.where, statement)}) AS fits_{n}"
        for n, step in enumerate(funnel.steps)
    ]
    rows = (
        f"SELECT visitor, ts, log_offset, {', '.join(fits)} FROM events "
        f"WHERE merchant_id = {bounds[0]} AND ts >= {bounds[1]} AND ts < {bounds[2]} "
        f"AND event = ANY ({names}) AND NOT is_bot AND {condition(funnel.where, statement)} "
        f"AND {affordable(statement, bounds, funnel.raw_rows)}"
    )
    window = statement.parameter(funnel.window, "interval")
    chain = _closed if funnel.kind == "closed" else _open
    chained = chain(rows, len(funnel.steps), window)
    steps = range(len(funnel.steps))
    each = ", ".join(
        f"bool_or(at_{n} IS NOT NULL) AS did_{n}, bool_or(on_{n}) AS on_{n}" for n in steps
    )
    reached = ", ".join(f"count(*) FILTER (WHERE did_{n})" for n in steps)
    continued = ", ".join(f"count(*) FILTER (WHERE on_{n})" for n in steps)
    counted = (
        f"SELECT ARRAY[{reached}] AS reached, ARRAY[{continued}] AS continued "
        f"FROM (SELECT visitor, {each} FROM ({chained}) AS chained GROUP BY visitor) AS visitors"
    )
    return told_with(
        statement, ["counted.*"], [f"({counted}) AS counted"], (place.partition, place.topic)
    )


_BEFORE: Final = (
    "OVER (PARTITION BY visitor ORDER BY ts, log_offset "
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
)


def _closed(rows: str, steps: int, window: str) -> str:
    """`at_n` of an event: the latest first step of a chain of n steps that ends with it.

    The latest is the best one: if any chain fits the window, the one that began last does.
    """
    chained = f"SELECT *, CASE WHEN fits_0 THEN ts END AS at_0, false AS on_0 FROM ({rows}) AS rows"
    for n in range(1, steps):
        begun = f"SELECT *, max(at_{n - 1}) {_BEFORE} AS begun_{n} FROM ({chained}) AS step_{n - 1}"
        inside = f"fits_{n} AND ts - begun_{n} <= {window}"
        chained = (
            f"SELECT *, CASE WHEN {inside} THEN begun_{n} END AS at_{n}, {inside} AS on_{n} "
            f"FROM ({begun}) AS step_{n}"
        )
    return chained


def _open(rows: str, steps: int, window: str) -> str:
    """`at_n` of an event that fits step n, however its visitor came to it; `on_n` where they came
    from step n - 1."""
    last = ", ".join(
        f"max(ts) FILTER (WHERE fits_{n - 1}) {_BEFORE} AS last_{n}" for n in range(1, steps)
    )
    did = ", ".join(
        f"CASE WHEN fits_{n} THEN ts END AS at_{n}, "
        + (f"fits_{n} AND ts - last_{n} <= {window} AS on_{n}" if n else "false AS on_0")
        for n in range(steps)
    )
    return f"SELECT visitor, {did} FROM (SELECT *, {last} FROM ({rows}) AS rows) AS marked"


async def answer(funnel: Funnel, place: Place) -> dict[str, Any]:
    """The funnel counted, as the answer's body.

    Raises:
        ProblemDetailsException: 422, it would read too many raw rows.
        asyncpg.PostgresError, OSError: the shard cannot answer now.
    """
    told = await fetch(place, count_visitors(funnel, place))
    check_cost(told["cost"], funnel.raw_rows)
    fresh = Freshness.of(told)
    reached, continued = told["reached"], told["continued"]
    steps = []
    for n, step in enumerate(funnel.steps):
        before = reached[n - 1] if n else None
        came = continued[n] if n else None
        first = reached[0] if funnel.kind == "closed" else None
        steps.append(
            {
                "name": step.name,
                "event": step.event,
                "visitors": reached[n],
                "from_previous": came,
                "dropped": None if before is None else before - (came or 0),
                "conversion_rate": _ratio(reached[n], first),
                "step_conversion_rate": _ratio(came, before),
            }
        )
    halted = [f"New events are not being read: {fresh.halted}"] if fresh.halted else []
    return {
        "steps": steps,
        "meta": meta(fresh, funnel.period.end, "raw", halted),
        "query": {
            "merchant_id": funnel.merchant_id,
            "date_range": written.local_range(funnel.period),
            "timezone": funnel.period.zone.key,
            "window_seconds": int(funnel.window.total_seconds()),
            "kind": funnel.kind,
        },
    }


def _ratio(part: int | None, whole: int | None) -> float | None:
    return round(part / whole, 6) if part is not None and whole else None
