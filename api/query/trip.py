"""All that an answer needs in one statement: one round trip, and its parts are of one snapshot."""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from api.query.catalogue import METRICS
from api.query.freshness import FRESH
from api.query.language import Question
from api.query.plan import Plan, plan
from api.query.replaced import REPLACING
from api.query.sql import Shared, Statement, grouped, order, paged

# The first three parameters of every statement are the merchant and the range.
_OTHER_CURRENCIES: Final = """(SELECT array_agg(DISTINCT currency) FROM traffic_daily
  WHERE merchant_id = $1::int8 AND bucket >= $2::timestamptz - INTERVAL '1 day'
    AND bucket < $3::timestamptz AND currency <> {currency} AND event IN ('purchase', 'refund'))"""


def in_one_trip(question: Question, planned: Plan, partition: int, topic: str) -> Statement:
    """One row with all that an answer needs: its columns as arrays, and how fresh they are.

    Arrays because a driver's row objects cost more than the question. Beside the columns stand,
    where they are asked for: `total_…`, `before_…` (totals of the period before), `then_…`
    (columns, the period before's rows beside those of the page), `other_…` (of all rows that are
    not on the page). Where money is asked for, `others` lists the other currencies in which the
    merchant took or gave any back within the range; `cost` is the raw rows to be read.
    """
    statement = Statement()
    shared = Shared(question, statement)
    reads, since = planned.rollups, shared.start
    earlier: tuple[Question, Plan] | None = None
    if question.include.comparison:
        before = replace(question, period=question.period.previous())
        earlier = before, plan(before)
        reads |= earlier[1].rollups
        since = statement.parameter(before.period.start, "timestamptz")
    answered, more = _answered(question, planned, shared, earlier)
    if question.include.totals and not question.totals_are_sums:
        more.append(_named("total", question, grouped(question, planned, shared, ())))
    if question.include.other:
        shown = f"SELECT * FROM page ORDER BY {order(question)} LIMIT "
        statement.shared["shown"] = shown + statement.parameter(question.limit, "int8")
        rest = grouped(question, planned, shared, question.keys, "shown")
        more.append(_named("other", question, rest))
    others = "NULL::text[]"
    if any(METRICS[name].unit == "money" for name in question.metrics):
        others = _OTHER_CURRENCIES.format(currency=statement.parameter(question.currency, "text"))
    selected = ["answered.*", *(f"{name}.*" for name, _ in more), f"{others} AS others"]
    relations = [f"({answered}) AS answered", *(f"({query}) AS {name}" for name, query in more)]
    where = (partition, topic)
    return told_with(statement, selected, relations, where, reads=reads, since=since)


def told_with(
    statement: Statement,
    selected: list[str],
    relations: list[str],
    where: tuple[int, str],
    *,
    reads: Collection[str] = (),
    since: str = "$2::timestamptz",
) -> Statement:
    """One row of one-row relations, and beside them how fresh it is and what it cost to read.

    Args:
        where: the merchant's partition and the topic.
        reads: names of the rollups that take part; none where raw rows answer.
        since: the placeholder of the first instant that is read.
    """
    partition, topic = where
    number = statement.parameter(partition, "int4")
    fresh = FRESH.format(
        rollups=statement.parameter(sorted(reads), "text[]"),
        since=since,
        partition=number,
        topic=statement.parameter(topic, "text"),
        replacing=REPLACING.format(partition=number),
    )
    costs = [f"(SELECT rows FROM {name})" for name in statement.costs]
    cost = f"greatest({', '.join(costs)})" if costs else "0::int8"
    joined = ",\n       ".join([*relations, f"({fresh}) AS fresh"])
    return statement.finish(
        f"SELECT {', '.join([*selected, 'fresh.*'])}, {cost} AS cost\n  FROM {joined}"
    )


def _named(prefix: str, question: Question, query: str) -> tuple[str, str]:
    """One row of metrics under names of its own."""
    renamed = ", ".join(f"{name} AS {prefix}_{name}" for name in question.metrics)
    return f"{prefix}_row", f"SELECT {renamed} FROM ({query}) AS {prefix}_found"


def _answered(
    question: Question, planned: Plan, shared: Shared, earlier: tuple[Question, Plan] | None
) -> tuple[str, list[tuple[str, str]]]:
    """The page's columns as arrays, and the row of the period before where that is compared.

    Args:
        earlier: the question about the period before, and its plan.
    """
    columns = [f"array_agg({name}) AS {name}" for name in question.columns]
    if not question.keys:
        page = grouped(question, planned, shared, ())
    else:
        page = paged(question, planned, shared)
        if question.include.other:
            shared.statement.shared["page"] = page
            page = f"SELECT * FROM page ORDER BY {order(question)}"
    beside: list[tuple[str, str]] = []
    if earlier is not None:
        then = Shared(earlier[0], shared.statement)
        beside.append(_named("before", question, grouped(*earlier, then, ())))
        if question.keys:
            page = _beside(question, page, grouped(*earlier, then, question.keys), shared)
            columns += [f"array_agg(then_{name}) AS then_{name}" for name in question.metrics]
    return f"SELECT {', '.join(columns)} FROM ({page}) AS found", beside


def _beside(question: Question, page: str, earlier: str, shared: Shared) -> str:
    """The page's rows with those of the period before: the same keys, time bucket by bucket."""
    keys = ", ".join(question.keys)
    renamed = [f"{name} AS then_{name}" for name in question.metrics]
    if question.interval:
        now = question.period.buckets(question.interval)
        before = question.period.previous().buckets(question.interval)
        pairs = list(zip(now, before, strict=False))
        moved = ", ".join(["moved.time", *question.dimensions, *renamed])
        to = shared.statement.parameter([pair[0] for pair in pairs], "timestamptz[]")
        of = shared.statement.parameter([pair[1] for pair in pairs], "timestamptz[]")
        earlier = (
            f"SELECT {moved} FROM ({earlier}) AS past "
            f"JOIN unnest({to}, {of}) AS moved (time, was) ON moved.was = past.time"
        )
    else:
        earlier = f"SELECT {', '.join([*question.keys, *renamed])} FROM ({earlier}) AS past"
    # a series shows empty buckets too, so that what was there before must not be lost
    how = "FULL" if question.is_series else "LEFT"
    return (
        f"SELECT * FROM ({page}) AS present {how} JOIN ({earlier}) AS past USING ({keys}) "
        f"ORDER BY {order(question)}"
    )
