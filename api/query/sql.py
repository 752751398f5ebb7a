"""A planned question as one SQL statement: names from the catalogues, values as parameters."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from api.query.catalogue import DIMENSIONS, METRICS, Metric
from api.query.freshness import FRESH
from api.query.language import Combined, Filter, Question
from api.query.plan import Plan, Reading, wants_bots
from db.rollups import BOUNCED, SESSION_MEASURES

NONE: Final = "(none)"  # how an absent value is shown, so that it is a row like any other

_RAW_MEASURES: Final = {
    "events": "1 AS events, (event = 'purchase' AND counted)::int AS orders, "
    "CASE WHEN event = 'purchase' AND counted THEN units ELSE 0 END AS units, "
    "CASE WHEN counted THEN coalesce(value_minor, 0) ELSE 0 END AS value_minor",
    "event_items": "1 AS events, (event = 'purchase' AND counted)::int AS orders, "
    "CASE WHEN event = 'purchase' AND counted THEN quantity ELSE 0 END AS units, "
    "CASE WHEN counted THEN coalesce(price_minor, 0) * quantity ELSE 0 END AS value_minor",
}
_ONE_SESSION: Final = (
    f"1 AS sessions, ({BOUNCED})::int AS bounces, "
    "extract(epoch FROM ended - started) * 1000 AS duration_ms, page_views, "
    "(carts > 0)::int AS sessions_with_cart, (purchases > 0)::int AS sessions_with_purchase"
)

# The first three parameters of every statement are the merchant and the range.
_OTHER_CURRENCIES: Final = """(SELECT array_agg(DISTINCT currency) FROM traffic_daily
  WHERE merchant_id = $1::int8 AND bucket >= $2::timestamptz - INTERVAL '1 day'
    AND bucket < $3::timestamptz AND currency <> {currency} AND event IN ('purchase', 'refund'))"""


@dataclass(slots=True)
class Statement:
    """SQL text and its parameters, gathered while it is written."""

    parameters: list[Any] = field(default_factory=list)
    text: str = ""

    def parameter(self, value: Any, kind: str) -> str:
        """A placeholder for `value`."""
        self.parameters.append(value)
        return f"${len(self.parameters)}::{kind}"


def select(question: Question, planned: Plan, *, totals: bool = False) -> Statement:
    """The statement that answers a question: one row a combination of its dimensions.

    With `totals`, one row for the whole range. One row more than the limit is asked for, so that
    the answer can tell whether there are more.
    """
    statement = Statement()
    shared = _Shared(question, statement)
    keys = [] if totals else list(question.columns[: -len(question.metrics)])
    parts = [
        f"{reading.group} AS (\n{_group(question, reading, shared, keys)}\n)"
        for reading in planned.readings
    ]
    names: list[str] = [reading.group for reading in planned.readings]
    if keys:
        joined = names[0]
        for name in names[1:]:
            joined += f" FULL JOIN {name} USING ({', '.join(keys)})"
    else:
        joined = " CROSS JOIN ".join(names)
    columns = [*keys, *(_zeroed(name) for name in question.metrics)]
    statement.text = f"WITH {', '.join(parts)}\nSELECT {', '.join(columns)} FROM {joined}"
    if keys:
        statement.text += f"\n ORDER BY {_order(question, keys)}"
        limit = statement.parameter(question.limit + 1, "int8")
        offset = statement.parameter(question.offset, "int8")
        statement.text += f"\n LIMIT {limit} OFFSET {offset}"
    return statement


def in_one_trip(question: Question, planned: Plan, partition: int, topic: str) -> Statement:
    """One row with all that an answer needs: its columns as arrays, and how fresh they are.

    Arrays because a driver's row objects cost more than the question; one statement because its
    parts then are of one snapshot. Where money is asked for, `others` lists the other currencies
    in which the merchant took or gave any back within the range.
    """
    statement = select(question, planned)
    columns = ", ".join(f"array_agg({name}) AS {name}" for name in question.columns)
    fresh = FRESH.format(
        partition=statement.parameter(partition, "int4"), topic=statement.parameter(topic, "text")
    )
    others = "NULL::text[]"
    if any(METRICS[name].unit == "money" for name in question.metrics):
        others = _OTHER_CURRENCIES.format(currency=statement.parameter(question.currency, "text"))
    statement.text = (
        f"SELECT answered.*, fresh.*, {others} AS others\n"
        f"  FROM (SELECT {columns} FROM ({statement.text}) AS found) AS answered,\n"
        f"       ({fresh}) AS fresh"
    )
    return statement


def _zeroed(metric: str) -> str:
    """A group that has no row for a key counted nothing there; a ratio is then null."""
    counts = METRICS[metric].unit == "count" or metric in ("revenue", "refunds")
    return f"coalesce({metric}, 0) AS {metric}" if counts else metric


def _order(question: Question, keys: list[str]) -> str:
    wanted = [f"{name} {direction} NULLS LAST" for name, direction in question.order_by]
    if not wanted and not question.interval:
        wanted = [f"{question.metrics[0]} desc NULLS LAST"]
    return ", ".join([*wanted, *keys])


class _Shared:
    """Parameters that several groups use; each is sent only where the text names it."""

    def __init__(self, question: Question, statement: Statement) -> None:
        self._question = question
        self.statement = statement
        self.merchant = statement.parameter(question.merchant_id, "int8")
        self.start = statement.parameter(question.period.start, "timestamptz")
        self.end = statement.parameter(question.period.end, "timestamptz")

    @cached_property
    def zone(self) -> str:
        """The time zone's placeholder."""
        return self.statement.parameter(self._question.period.zone.key, "text")

    @cached_property
    def currency(self) -> str:
        """The currency's placeholder."""
        return self.statement.parameter(self._question.currency, "text")

    def expression(self, metric: Metric) -> str:
        """A metric's expression with its placeholders filled in."""
        if "{currency}" not in metric.expression:
            return metric.expression
        return metric.expression.format(currency=self.currency)


def _group(question: Question, reading: Reading, shared: _Shared, keys: list[str]) -> str:
    metrics = [METRICS[name] for name in question.metrics if METRICS[name].group == reading.group]
    selected = [f"{shared.expression(metric)} AS {metric.name}" for metric in metrics]
    rows = _rows(question, reading, shared, keys)
    grouping = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join([*keys, *selected])} FROM ({rows}) AS rows{grouping}"


def _rows(question: Question, reading: Reading, shared: _Shared, keys: list[str]) -> str:
    """The rows of one relation that the question is about, keyed by its dimensions."""
    relation, time_column, measures, bounds = _relation(question, reading, shared)
    if reading.group == "event":
        measures = f"currency, {measures}" if "event" in keys else f"event, currency, {measures}"
    key_columns = [
        f"date_trunc('{question.interval}', {time_column}, {shared.zone}) AS time"
        if key == "time"
        else f"coalesce({DIMENSIONS[key]}, '{NONE}') AS {key}"
        for key in keys
    ]
    where = [f"merchant_id = {shared.merchant}", *bounds, _condition(question.where, shared)]
    if reading.group == "visitors":
        distinct = ", ".join([*keys, "visitor_register"])
        inner = ", ".join([*key_columns, "visitor_register", "visitor_rank"])
        outer = ", ".join([*keys, "max(visitor_rank) AS visitor_rank"])
        return (
            f"SELECT {outer} FROM (SELECT {inner} FROM {relation} WHERE {' AND '.join(where)}) "
            f"AS seen GROUP BY {distinct}"
        )
    return (
        f"SELECT {', '.join([*key_columns, measures])} FROM {relation} WHERE {' AND '.join(where)}"
    )


def _relation(
    question: Question, reading: Reading, shared: _Shared
) -> tuple[str, str, str, list[str]]:
    """Relation, its time, its measures, and the bounds of the range on it."""
    if reading.group == "session":
        return _session_relation(question, reading, shared)
    time_column = "ts" if reading.source == "raw" else "bucket"
    bounds = [f"{time_column} >= {shared.start}", f"{time_column} < {shared.end}"]
    if reading.source == "raw":
        measures = _RAW_MEASURES[reading.relation]
        if not wants_bots(question):
            bounds.append("NOT is_bot")
    else:
        measures = "events, orders, units, value_minor"
        if reading.relation.startswith("device_") and not wants_bots(question):
            bounds.append("device <> 'bot'")
    return reading.relation, time_column, measures, bounds


def _session_relation(
    question: Question, reading: Reading, shared: _Shared
) -> tuple[str, str, str, list[str]]:
    relation, time_column, measures = reading.relation, "started", _ONE_SESSION
    if relation == "session_summary_daily":
        time_column = "started_quarter"
        measures = (
            "sessions, bounces, duration_ms, page_views, sessions_with_cart, sessions_with_purchase"
        )
    elif reading.source == "raw":
        made = ", ".join(f"{m.expression} AS {m.name}" for m in SESSION_MEASURES)
        relation = (
            "(SELECT time_bucket('1 day', ts) AS bucket, merchant_id, session, "
            f"{made} FROM events WHERE merchant_id = {shared.merchant} AND session IS NOT NULL "
            f"AND ts >= {shared.start} - INTERVAL '1 day' AND ts < {shared.end} + INTERVAL '1 day' "
            "GROUP BY 1, 2, 3) AS sessions"
        )
    bounds = [
        f"bucket > {shared.start} - INTERVAL '1 day'",
        f"bucket < {shared.end}",
        f"{time_column} >= {shared.start}",
        f"{time_column} < {shared.end}",
    ]
    return relation, time_column, measures, bounds


def _condition(where: Filter, shared: _Shared) -> str:
    if isinstance(where, Combined):
        if where.how == "not":
            return f"NOT ({_condition(where.parts[0], shared)})"
        if not where.parts:
            return "true"
        joint = f" {where.how.upper()} "
        return "(" + joint.join(_condition(part, shared) for part in where.parts) + ")"
    column = f"coalesce({DIMENSIONS[where.dimension]}, '{NONE}')"
    values = shared.statement.parameter(list(where.values), "text[]")
    anything = f"EXISTS (SELECT FROM unnest({values}) AS v WHERE "
    match where.operator:
        case "is":
            return f"{column} = ANY ({values})"
        case "is_not":
            return f"{column} <> ALL ({values})"
        case "contains":
            return f"{anything}strpos(lower({column}), lower(v)) > 0)"
        case "contains_not":
            return f"NOT {anything}strpos(lower({column}), lower(v)) > 0)"
        case "matches_prefix":
            return f"{anything}starts_with({column}, v))"
