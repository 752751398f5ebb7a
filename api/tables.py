"""Rows as CSV, NDJSON and Arrow, piece by piece."""

import csv
import io
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from api.query.catalogue import METRICS
from api.query.language import Question
from events.money import EXPONENTS

# A text that begins so would be a formula to a spreadsheet. Some skip spaces and characters without
# width, and take full-width forms as well.
_UNSEEN: Final = r"\s\x00-\x1f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_FORMULA: Final = re.compile(rf"[\t\r\n]|[{_UNSEEN}]*[=+\-@\uff1d\uff0b\uff0d\uff20]")

Rows = list[dict[str, Any]]
Writer = Callable[[Question, dict[str, Any], AsyncIterator[Rows]], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Format:
    """A file format."""

    media_type: str
    suffix: str
    write: Writer


async def _ndjson(
    question: Question, about: dict[str, Any], pieces: AsyncIterator[Rows]
) -> AsyncIterator[bytes]:
    """A row a line, as in the JSON answer."""
    encode = msgspec.json.Encoder().encode_lines
    async for rows in pieces:
        yield encode(rows)


async def _csv(
    question: Question, about: dict[str, Any], pieces: AsyncIterator[Rows]
) -> AsyncIterator[bytes]:
    """A header, then rows (RFC 4180). Money is a decimal, its currency a column of its own. A text
    that a spreadsheet would run as a formula has a single quote before it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_names(question))
    async for rows in pieces:
        writer.writerows(_harmless(question, _flat(question, row)) for row in rows)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


async def _arrow(
    question: Question, about: dict[str, Any], pieces: AsyncIterator[Rows]
) -> AsyncIterator[bytes]:
    """Arrow's streaming format: counts int64, money decimal128, time in the question's zone. What
    the answer says about itself is the schema's metadata `footfall`."""
    schema = pa.schema(
        [(name, _kind(question, name)) for name in _names(question)],
        metadata={"footfall": msgspec.json.encode(about)},
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        async for rows in pieces:
            columns = zip(*(_flat(question, row) for row in rows), strict=True)
            arrays = [
                pa.array([_arrow_value(field.type, value) for value in column], field.type)
                for field, column in zip(schema, columns, strict=True)
            ]
            if arrays:
                writer.write_batch(pa.record_batch(arrays, schema=schema))
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _names(question: Question) -> list[str]:
    names = [*question.columns]
    if question.include.comparison and question.keys:
        names += [f"{name}_before" for name in question.metrics]
        names += [f"{name}_change_percent" for name in question.metrics]
    if any(METRICS[name].unit == "money" for name in question.metrics):
        names.append("currency")
    return names


def _flat(question: Question, row: dict[str, Any]) -> list[Any]:
    values = [_plain(row.get(name)) for name in question.columns]
    if question.include.comparison and question.keys:
        before, change = row.get("comparison", {}), row.get("change_percent", {})
        values += [_plain(before.get(name)) for name in question.metrics]
        values += [change.get(name) for name in question.metrics]
    if any(METRICS[name].unit == "money" for name in question.metrics):
        values.append(question.currency)
    return values


def _harmless(question: Question, values: list[Any]) -> list[Any]:
    """Dimensions are what shops and their visitors sent; the numbers after them are ours."""
    texts = len(question.keys)
    return [
        f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value
        for value in values[:texts]
    ] + values[texts:]


def _plain(value: Any) -> Any:
    return value["amount"] if isinstance(value, dict) else value


def _kind(question: Question, name: str) -> pa.DataType:
    if name == "time":
        return pa.timestamp("us", tz=question.period.zone.key)
    if name in question.dimensions or name == "currency":
        return pa.string()
    metric = METRICS.get(name.removesuffix("_before"))
    if metric is None or metric.unit in ("ratio", "seconds"):
        return pa.float64()
    if metric.unit == "money":
        return pa.decimal128(38, EXPONENTS[question.currency])
    return pa.int64()


def _arrow_value(kind: pa.DataType, value: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_decimal(kind):
        return Decimal(value)
    return datetime.fromisoformat(value) if pa.types.is_timestamp(kind) else value


_ALL: Final = (
    Format("text/csv", "csv", _csv),
    Format("application/x-ndjson", "ndjson", _ndjson),
    Format("application/vnd.apache.arrow.stream", "arrows", _arrow),
)
FORMATS: Final = {each.media_type: each for each in _ALL}
