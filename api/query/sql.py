"""A planned question as one SQL statement: names from the catalogues, values as parameters."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from api.query.catalogue import DIMENSIONS, METRICS, NONE, Metric
from api.query.cursor import after
from api.query.language import Combined, Filter, Question
from api.query.plan import Plan, Reading, Source, wants_bots
from api.query.replaced import RAW_MEASURES, beside_rows
from db.rollups import BOUNCED, BY_NAME, SESSION_MEASURES

_ONE_SESSION: Final = (
    f"1 AS sessions, ({BOUNCED})::int AS bounces, "
    "extract(epoch FROM ended - started) * 1000 AS duration_ms, page_views, "
    "(carts > 0)::int AS sessions_with_cart, (purchases > 0)::int AS sessions_with_purchase"
)

_OWN_BUCKETS: Final = {("hour", "hourly"), ("day", "daily")}

# What a question of raw rows would read, as the rollup counts it: the scan begins only below the
# limit, and the statement tells what it was.
_COST: Final = """SELECT coalesce(sum(events), 0)::int8 AS rows FROM traffic_daily
  WHERE merchant_id = {merchant} AND bucket > {start} - INTERVAL '1 day' AND bucket < {end}"""


@dataclass(slots=True)
class Statement:
    """SQL text and its parameters, gathered while it is written."""

    parameters: list[Any] = field(default_factory=list)
    text: str = ""
    shared: dict[str, str] = field(default_factory=dict)  # CTEs that any part may name

    def parameter(self, value: Any, kind: str) -> str:
        """A placeholder for `value`."""
        self.parameters.append(value)
        return f"${len(self.parameters)}::{kind}"

    @property
    def costs(self) -> list[str]:
        """Names of the CTEs that tell how many raw rows are read; none where rollups answer."""
        return [name for name in self.shared if name.startswith("cost_")]

    def finish(self, text: str) -> "Statement":
        """The whole text: what the parts share stands before them."""
        ctes = ",\n     ".join(f"{name} AS ({query})" for name, query in self.shared.items())
        self.text = f"WITH {ctes}\n{text}" if ctes else text
        return self


def select(question: Question, planned: Plan, *, totals: bool = False) -> Statement:
    """The statement that answers a question: one row a combination of its dimensions.

    With `totals`, one row for the whole range.
    """
    statement = Statement()
    shared = Shared(question, statement)
    if totals or not question.keys:
        return statement.finish(grouped(question, planned, shared, ()))
    return statement.finish(paged(question, planned, shared))


def paged(question: Question, planned: Plan, shared: "Shared") -> str:
    """The rows of one page, and one more, so that the answer can tell whether there are more."""
    text = f"SELECT * FROM ({grouped(question, planned, shared, question.keys)}) AS grouped"
    if question.after is not None:
        text += f"\n WHERE {after(question, shared.statement.parameter)}"
    limit = shared.statement.parameter(question.limit + 1, "int8")
    return f"{text}\n ORDER BY {order(question)}\n LIMIT {limit}"


def grouped(
    question: Question,
    planned: Plan,
    shared: "Shared",
    keys: tuple[str, ...],
    shown: str | None = None,
) -> str:
    """The question's metrics by these keys, in no order.

    Where `shown` names a relation, one row of all that has none of its keys.
    """
    parts = [
        f"{reading.group} AS (\n{_group(question, reading, shared, keys, shown)}\n)"
        for reading in planned.readings
    ]
    names: list[str] = [reading.group for reading in planned.readings]
    if keys and shown is None:
        joined = names[0]
        for name in names[1:]:
            joined += f" FULL JOIN {name} USING ({', '.join(keys)})"
    else:
        joined, keys = " CROSS JOIN ".join(names), ()
    columns = [*keys, *(_zeroed(name) for name in question.metrics)]
    return f"WITH {', '.join(parts)}\nSELECT {', '.join(columns)} FROM {joined}"


def order(question: Question) -> str:
    """The order of the rows: as asked, then by the keys, so that it is one order."""
    return ", ".join(f"{name} {direction} NULLS LAST" for name, direction in question.sorting)


def _zeroed(metric: str) -> str:
    """A group that has no row for a key counted nothing there; a ratio is then null."""
    counts = METRICS[metric].unit == "count" or metric in ("revenue", "refunds")
    return f"coalesce({metric}, 0) AS {metric}" if counts else metric


class Shared:
    """Parameters that several groups use; each is sent only where the text names it."""

    def __init__(self, question: Question, statement: Statement) -> None:
        self._question = question
        self.statement = statement
        self.merchant = statement.parameter(question.merchant_id, "int8")
        self.start = statement.parameter(question.period.start, "timestamptz")
        self.end = statement.parameter(question.period.end, "timestamptz")

    @cached_property
    def _buckets(self) -> str:
        assert self._question.interval is not None  # noqa: S101 - there is a time dimension
        starts = self._question.period.buckets(self._question.interval)
        return self.statement.parameter(list(starts), "timestamptz[]")

    def bucket_of(self, column: str, source: Source) -> str:
        """The start of the bucket of the question's interval that holds an instant.

        The buckets are ours, not the database's: its date_trunc takes the second of two midnights
        where the clock is set back at one of them, and its zones may be of another year.
        """
        interval = self._question.interval
        assert interval is not None  # noqa: S101 - there is a time dimension
        if not self._question.period.is_utc(interval):
            return f"({self._buckets})[width_bucket({column}, {self._buckets})]"
        if column == "bucket" and (interval, source) in _OWN_BUCKETS:
            return column
        return f"date_trunc('{interval}', {column}, 'UTC')"

    @cached_property
    def replaced(self) -> list[tuple[str, str]]:
        """Placeholders of the windows that are taken from raw rows."""
        return [
            (
                self.statement.parameter(start, "timestamptz"),
                self.statement.parameter(end, "timestamptz"),
            )
            for start, end in self._question.replaced
        ]

    @cached_property
    def currency(self) -> str:
        """The currency's placeholder."""
        return self.statement.parameter(self._question.currency, "text")

    @cached_property
    def affordable(self) -> str:
        """True where the raw rows of the range are not too many to read."""
        return affordable(
            self.statement, (self.merchant, self.start, self.end), self._question.raw_rows
        )

    def expression(self, metric: Metric) -> str:
        """A metric's expression with its placeholders filled in."""
        if "{currency}" not in metric.expression:
            return metric.expression
        return metric.expression.format(currency=self.currency)


def affordable(statement: Statement, bounds: tuple[str, str, str], limit: int) -> str:
    """A condition that is true where the raw rows of a merchant and range are not too many; what
    there are the statement tells as `cost`.

    Args:
        bounds: the placeholders of merchant, start and end.
    """
    merchant, start, end = bounds
    name = f"cost_{len(statement.shared)}"
    statement.shared[name] = _COST.format(merchant=merchant, start=start, end=end)
    return f"(SELECT rows FROM {name}) <= {statement.parameter(limit, 'int8')}"


def _group(
    question: Question, reading: Reading, shared: Shared, keys: tuple[str, ...], shown: str | None
) -> str:
    metrics = [METRICS[name] for name in question.metrics if METRICS[name].group == reading.group]
    selected = [f"{shared.expression(metric)} AS {metric.name}" for metric in metrics]
    rows = f"({_rows(question, reading, shared, keys)}) AS rows"
    if shown is not None:
        rows, keys = _others(reading, rows, keys, shown), ()
    grouping = f" GROUP BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join([*keys, *selected])} FROM {rows}{grouping}"


def _others(reading: Reading, rows: str, keys: tuple[str, ...], shown: str) -> str:
    same = " AND ".join(f"{shown}.{key} = rows.{key}" for key in keys)
    apart = f"{rows} WHERE NOT EXISTS (SELECT FROM {shown} WHERE {same})"
    if reading.group != "visitors":
        return apart
    # one visitor may have been in several of them
    return (
        "(SELECT visitor_register, max(visitor_rank) AS visitor_rank "
        f"FROM {apart} GROUP BY visitor_register) AS others"
    )


def _rows(question: Question, reading: Reading, shared: Shared, keys: tuple[str, ...]) -> str:
    """The rows of one relation that the question is about, keyed by its dimensions."""
    relation, time_column, measures, bounds = _relation(question, reading, shared)
    if question.replaced and relation in BY_NAME:
        relation = beside_rows(reading, shared.merchant, shared.replaced)
    if reading.group == "visitors":
        measures = "visitor_rank"
    elif reading.group == "event":
        measures = f"currency, {measures}" if "event" in keys else f"event, currency, {measures}"
    key_columns = [
        f"{shared.bucket_of(time_column, reading.source)} AS time"
        if key == "time"
        else f"coalesce({DIMENSIONS[key]}, '{NONE}') AS {key}"
        for key in keys
    ]
    where = [
        f"merchant_id = {shared.merchant}",
        *bounds,
        condition(question.where, shared.statement),
    ]
    own_buckets = key_columns == ["bucket AS time"] and not question.replaced
    if reading.group == "visitors" and not own_buckets:  # there a register has one row each
        distinct = ", ".join([*keys, "visitor_register"])
        inner = ", ".join([*key_columns, "visitor_register", "visitor_rank"])
        outer = ", ".join([*keys, "visitor_register", "max(visitor_rank) AS visitor_rank"])
        return (
            f"SELECT {outer} FROM (SELECT {inner} FROM {relation} WHERE {' AND '.join(where)}) "
            f"AS seen GROUP BY {distinct}"
        )
    return (
        f"SELECT {', '.join([*key_columns, measures])} FROM {relation} WHERE {' AND '.join(where)}"
    )


def _relation(
    question: Question, reading: Reading, shared: Shared
) -> tuple[str, str, str, list[str]]:
    """Relation, its time, its measures, and the bounds of the range on it."""
    if reading.group == "session":
        return _session_relation(question, reading, shared)
    time_column = "ts" if reading.source == "raw" else "bucket"
    bounds = [f"{time_column} >= {shared.start}", f"{time_column} < {shared.end}"]
    if reading.source == "raw":
        measures = RAW_MEASURES[reading.relation]
        bounds.append(shared.affordable)
        if not wants_bots(question):
            bounds.append("NOT is_bot")
    else:
        measures = "events, orders, units, value_minor"
        if reading.relation.startswith("device_") and not wants_bots(question):
            bounds.append("device <> 'bot'")
    return reading.relation, time_column, measures, bounds


def _session_relation(
    question: Question, reading: Reading, shared: Shared
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
            f"AND {shared.affordable} GROUP BY 1, 2, 3) AS sessions"
        )
    bounds = [
        f"bucket > {shared.start} - INTERVAL '1 day'",
        f"bucket < {shared.end}",
        f"{time_column} >= {shared.start}",
        f"{time_column} < {shared.end}",
    ]
    return relation, time_column, measures, bounds


def condition(where: Filter, statement: Statement) -> str:
    """A filter over the columns of a relation that has its dimensions."""
    if isinstance(where, Combined):
        if where.how == "not":
            return f"NOT ({condition(where.parts[0], statement)})"
        if not where.parts:
            return "true"
        joint = f" {where.how.upper()} "
        return "(" + joint.join(condition(part, statement) for part in where.parts) + ")"
    column = f"coalesce({DIMENSIONS[where.dimension]}, '{NONE}')"
    values = statement.parameter(list(where.values), "text[]")
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
