"""Where the next page begins: after the last row shown, in the answer's own order.

A cursor bears the values by which the rows are sorted, not a count of rows: rows that appear or
vanish meanwhile shift nothing. It bears the range as it was resolved, too, so that the pages of
"today" are pages of one day.
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from api.problems import invalid
from api.query.catalogue import METRICS

if TYPE_CHECKING:
    from api.query.language import Question

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN: Final = range(221_845_392_000_000_000)  # the years 1970 to 8999


class Cursor(msgspec.Struct, array_like=True):
    """The question's fingerprint, its range in microseconds, the last row's sorting values."""

    question: str
    start: int
    end: int
    last: list[int | float | str | None]


def read(text: str) -> Cursor:
    """A cursor as it was given out.

    Raises:
        ProblemDetailsException: 400, it was not.
    """
    try:
        cursor = msgspec.json.decode(
            base64.b64decode(text, altchars=b"-_", validate=True), type=Cursor
        )
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise foreign() from error
    if cursor.start not in _SPAN or cursor.end not in _SPAN:
        raise foreign()
    return cursor


def write(question: "Question", last: dict[str, Any]) -> str:
    """The cursor behind a row."""
    values = [_plain(last[name]) for name, _ in question.sorting]
    period = question.period
    cursor = Cursor(fingerprint(question), _micros(period.start), _micros(period.end), values)
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def fingerprint(question: "Question") -> str:
    """What must be the same on every page of an answer."""
    same = (
        question.merchant_id, question.metrics, question.interval, question.dimensions,
        question.where, question.currency, question.order_by, question.period.zone.key,
    )  # fmt: skip
    return blake2b(repr(same).encode(), digest_size=9).hexdigest()


def instant(micros: int) -> datetime:
    """Microseconds since 1970 as an instant."""
    return _EPOCH + timedelta(microseconds=micros)


def last_row(question: "Question", values: list[Any]) -> tuple[Any, ...]:
    """The sorting values of a cursor, each of its column's type.

    Raises:
        ProblemDetailsException: 400, they are not.
    """
    if len(values) != len(question.sorting):
        raise foreign()
    return tuple(
        _typed(question, name, value)
        for (name, _), value in zip(question.sorting, values, strict=True)
    )


def _typed(question: "Question", name: str, value: int | float | str | None) -> Any:
    kind = _python_type(question, name)
    if value is None and name in METRICS:
        return None
    if kind is float and isinstance(value, int | float):
        return float(value)
    if kind is datetime and isinstance(value, int) and value in _SPAN:
        return instant(value)
    if kind is int and isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if kind is str and isinstance(value, str) and "\0" not in value:
        return value
    raise foreign()


def after(question: "Question", parameter: Callable[[Any, str], str]) -> str:
    """SQL that is true of the rows that come after `question.after`."""
    assert question.after is not None  # noqa: S101 - the caller has a cursor
    equal: list[str] = []
    found: list[str] = []
    for (name, direction), value in zip(question.sorting, question.after, strict=True):
        if value is not None:
            given = parameter(value, _SQL_TYPES[_python_type(question, name)])
            further = f"({name} {'<' if direction == 'desc' else '>'} {given} OR {name} IS NULL)"
            found.append(" AND ".join([*equal, further]))
            equal.append(f"{name} = {given}")
        else:  # nulls come last: only equal ones are left
            equal.append(f"{name} IS NULL")
    return f"({' OR '.join(f'({each})' for each in found)})"


def foreign() -> Exception:
    """A cursor that this question did not give out."""
    return invalid("cursor", "Give next_cursor of the answer before, unchanged, with its question.")


_SQL_TYPES: Final[dict[type, str]] = {
    datetime: "timestamptz",
    str: "text",
    int: "int8",
    float: "float8",
}


def _python_type(question: "Question", name: str) -> type:
    if name == "time":
        return datetime
    if name in question.dimensions:
        return str
    metric = METRICS[name]
    whole = metric.unit == "count" or (metric.unit == "money" and metric.adds_up)
    return int if whole else float


def _plain(value: Any) -> Any:
    return _micros(value) if isinstance(value, datetime) else value


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
