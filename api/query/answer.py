"""Asking the shard and writing the answer: columns all the way, rows only in the body."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from api.problems import problem
from api.query import cursor, written
from api.query.freshness import Freshness
from api.query.language import Question
from api.query.meta import meta
from api.query.place import Place, check_cost, fetch
from api.query.plan import Plan, plan
from api.query.replaced import windows
from api.query.trip import in_one_trip
from api.query.warnings import warnings_about
from api.query.written import Columns
from db.saturation import saturated

HLL_ERROR: Final = 0.0163
OTHER: Final = "(other)"
TRIES: Final = 8


async def answer(question: Question, place: Place) -> dict[str, Any]:
    """The answer to a question, as its JSON body.

    Raises:
        ProblemDetailsException: 422, it would read too many raw rows.
        asyncpg.PostgresError, OSError: the shard cannot answer now.
    """
    planned = plan(question)
    question, told = await _ask(question, planned, place)
    check_cost(told["cost"], question.raw_rows)
    columns, more = _page(question, told)
    body = _body(question, planned, columns, told)
    body["meta"]["truncated"] = more
    body["next_cursor"] = None
    if more:
        last = {name: columns[name][-1] for name, _ in question.sorting}
        body["next_cursor"] = cursor.write(question, last)
    if question.include.totals:
        body["totals"] = _totals(question, columns, told)
    if question.include.comparison:
        body["comparison"] = _compare(question, body, columns, told)
    if question.include.other and more:
        rest = written.metrics(question, told, "other_")
        body["rows"].append(dict.fromkeys(question.dimensions, OTHER) | rest)
    return body


async def _ask(question: Question, planned: Plan, place: Place) -> tuple[Question, dict[str, Any]]:
    """What the shard tells. A second time where it tells of days that are being replaced: then
    those are taken from raw rows; and again where they are others by then.

    Raises:
        ProblemDetailsException: 503, they are others each time.
    """
    for _ in range(TRIES):
        statement = in_one_trip(question, planned, place.partition, place.topic)
        told = await fetch(place, statement)
        start = question.period.start
        if question.include.comparison:
            start = question.period.previous().start
        replaced = windows(told["replacing"], start, question.period.end)
        if replaced == question.replaced or planned.is_raw:
            return question, told
        question = dataclasses.replace(question, replaced=replaced)
    raise problem(
        503,
        "history_moves",
        "The history asked about is being replaced faster than it can be read: try again.",
        headers={"Retry-After": "1"},
    )


def _totals(question: Question, columns: Columns, told: Mapping[str, Any]) -> dict[str, Any]:
    if not question.keys:
        return written.metrics(question, {name: columns[name][0] for name in question.metrics})
    if question.totals_are_sums:
        sums = {name: saturated(sum(filter(None, columns[name]))) for name in question.metrics}
        return written.metrics(question, sums)
    return written.metrics(question, told, "total_")


def _compare(
    question: Question, body: dict[str, Any], columns: Columns, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Totals of the period before, and the change against it in per cent; each row gets the same
    for its own key."""
    before = question.period.previous()
    then = written.metrics(question, told, "before_")
    compared = {
        "date_range": [written.instant(before.start), written.instant(before.end)],
        "totals": then,
    }
    if not question.keys or question.include.totals:
        now = body["totals"] if question.include.totals else body["rows"][0]
        compared["change_percent"] = written.changes(question, then, now)
    if question.keys:
        past = {
            name: written.column(question, name, columns[f"then_{name}"])
            for name in question.metrics
        }
        for place, row in enumerate(body["rows"]):
            was = {name: past[name][place] for name in question.metrics}
            row["comparison"] = was
            row["change_percent"] = written.changes(question, was, row)
    return compared


def _page(question: Question, told: Mapping[str, Any]) -> tuple[Columns, bool]:
    """The columns of the rows to show, and whether there are more."""
    names = list(question.columns)
    if question.include.comparison and question.keys:
        names += [f"then_{name}" for name in question.metrics]
    found = {name: told[name] or [] for name in names}
    if question.is_series:
        return _zero_filled(question, found)
    count = len(found[question.columns[0]])
    if count <= question.limit:
        return found, False
    return {name: column[: question.limit] for name, column in found.items()}, True


def _zero_filled(question: Question, found: Columns) -> tuple[Columns, bool]:
    """A series has a point for every bucket, whether anything happened in it or not."""
    assert question.interval is not None  # noqa: S101 - the caller asked for a series
    buckets = question.period.buckets(question.interval)
    if question.after is not None:
        buckets = tuple(bucket for bucket in buckets if bucket > question.after[0])
    shown = list(buckets[: question.limit])
    times = found.pop("time")
    if times != shown:
        place_of = {time: place for place, time in enumerate(times)}
        places = [place_of.get(time) for time in shown]
        found = {
            name: [None if place is None else column[place] for place in places]
            for name, column in found.items()
        }
    return {"time": shown, **found}, len(shown) < len(buckets)


def _body(
    question: Question, planned: Plan, columns: Columns, told: Mapping[str, Any]
) -> dict[str, Any]:
    fresh = Freshness.of(told)
    approximate = (
        {"visitors": {"method": "hll", "relative_error": HLL_ERROR}}
        if "visitors" in question.metrics
        else {}
    )
    told_of = warnings_about(question, planned, columns, told, fresh)
    return {
        "rows": written.rows(question, columns),
        "meta": meta(fresh, question.period.end, planned.source, told_of, approximate),
        "query": understood(question),
    }


def understood(question: Question) -> dict[str, Any]:
    """The question as it was understood."""
    period = question.period
    time = [f"time:{question.interval}"] if question.interval else []
    return {
        "merchant_id": question.merchant_id,
        "metrics": list(question.metrics),
        "date_range": written.local_range(period),
        "dimensions": [*time, *question.dimensions],
        "timezone": period.zone.key,
        "currency": question.currency,
        "order_by": [list(each) for each in question.order_by],
        "limit": question.limit,
    }
