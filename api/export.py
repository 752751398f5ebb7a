"""Answers as files: CSV, NDJSON or Arrow, streamed from the shard in pieces of bounded size."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import asyncpg
from litestar import Request
from litestar.response import Response, Stream

from api.asking import too_slow
from api.downloads import Downloads
from api.problems import invalid
from api.query import written
from api.query.answer import answer
from api.query.freshness import Freshness
from api.query.language import Question
from api.query.meta import meta
from api.query.place import ACQUIRE_S, Place, check_cost, check_place
from api.query.plan import Plan, plan
from api.query.replaced import windows
from api.query.sql import Statement, affordable, select
from api.query.trip import told_with
from api.query.warnings import failing_rollups, out_of_reach, unknown_values
from api.tables import FORMATS, Format, Rows

PIECE: Final = 5_000  # rows held at a time
MOST: Final = 1_000_000  # rows of one file


def wanted_format(request: Request[Any, Any, Any]) -> Format | None:
    """The file format that `Accept` asks for; None for JSON.

    The first that is known counts, in the header's order of preference by q.
    """
    accepted = []
    for part in request.headers.get("accept", "").lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        accepted.append((-_number(weight), kind))
    for order, kind in sorted(accepted, key=lambda each: each[0]):
        if order < 0 and kind in FORMATS:
            return FORMATS[kind]
        if order < 0 and kind in ("application/json", "application/*", "*/*"):
            return None
    return None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


async def export(
    question: Question,
    place: Place,
    kind: Format,
    downloads: Downloads,
    *,
    everything: bool,
    bom: bool = False,
) -> Response[Any]:
    """The rows of an answer as a file: all of them, or as many as the limit says.

    Args:
        bom: begin a CSV file with a byte order mark, by which Excel knows UTF-8.

    Raises:
        ProblemDetailsException: 400, it cannot be had as a file; 422, it costs too much; 429 or
            503, too many files are being made.
        asyncpg.PostgresError, OSError: the shard does not answer.
    """
    if not everything or question.is_series or not question.keys:
        body = await answer(question, place)
        pieces = kind.write(question, body["meta"], _once(body["rows"]))
        return _stream(kind, body["meta"], _marked(pieces) if bom else pieces)
    if question.include.comparison or question.include.other:
        raise invalid("include", "A file of all rows holds no comparison and no other: give limit.")
    async with downloads.reading(question.merchant_id, place.shard):
        rows = _pieces(replace(question, limit=MOST), place)
        try:
            about = await anext(rows)
            assert isinstance(about, dict)  # noqa: S101 - what comes first is the meta
            pieces = kind.write(question, about, rows)
            file = await downloads.write(_marked(pieces) if bom else pieces)
        except asyncpg.QueryCanceledError as error:
            raise too_slow() from error
        finally:
            await rows.aclose()
    return _stream(kind, about, downloads.send(question.merchant_id, file))


async def _marked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield codecs.BOM_UTF8
    async for piece in pieces:
        yield piece


async def _once(rows: Rows) -> AsyncIterator[Any]:
    yield rows


async def _pieces(question: Question, place: Place) -> AsyncGenerator[Any]:
    """First what is to be said of the answer, then its rows.

    The freshness is read before the rows, by a statement of its own: they hold at least what it
    says. They are one statement's, of one snapshot.
    """
    planned = plan(question)
    async with AsyncExitStack() as held:
        connection = await held.enter_async_context(place.scans.acquire(timeout=ACQUIRE_S))
        await held.enter_async_context(connection.transaction(readonly=True))
        before = _before(question, planned, place)
        told = await connection.fetchrow(before.text, *before.parameters)
        assert told is not None  # noqa: S101 - it gives exactly one row
        check_cost(told["cost"], question.raw_rows)
        # The cursor's snapshot is not the one that told of days being replaced: look once more.
        while True:
            period = question.period
            replaced = windows(told["replacing"], period.start, period.end)
            question = replace(question, replaced=replaced)
            statement = select(question, planned)
            cursor = await connection.cursor(statement.text, *statement.parameters)
            rows = await cursor.fetch(PIECE)
            again = await connection.fetchrow(before.text, *before.parameters)
            assert again is not None  # noqa: S101 - it gives exactly one row
            await check_place(place, dict(again))
            if again["replacing"] == told["replacing"]:
                break
            told = again
        fresh = Freshness.of(dict(told))
        warnings = unknown_values(question) + out_of_reach(question, planned)
        warnings += failing_rollups(fresh)
        if not rows and question.filtered:
            warnings.append("Nothing in this range matches the filters.")
        yield meta(fresh, question.period.end, planned.source, warnings)
        sent = 0
        while rows:
            columns = {
                name: [row[name] for row in rows[: question.limit - sent]]
                for name in question.columns
            }
            yield written.rows(question, columns)
            sent += len(rows)
            rows = await cursor.fetch(PIECE) if sent < question.limit else []


def _before(question: Question, planned: Plan, place: Place) -> Statement:
    """How fresh it is, and what it would cost."""
    statement = Statement()
    allowed = "true"
    bounds = (
        statement.parameter(question.merchant_id, "int8"),
        statement.parameter(question.period.start, "timestamptz"),
        statement.parameter(question.period.end, "timestamptz"),
    )
    if planned.source == "raw":
        allowed = affordable(statement, bounds, question.raw_rows)
    where = (place.partition, place.topic)
    return told_with(statement, [f"{allowed} AS allowed"], [], where, reads=planned.rollups)


def _stream(kind: Format, about: dict[str, Any], content: AsyncIterator[bytes]) -> Response[Any]:
    headers = {
        "Footfall-Fresh-As-Of": about["fresh_as_of"] or "",
        "Footfall-Complete": str(about["complete"]).lower(),
        "Footfall-Source": about["source"],
        "Footfall-Truncated": str(about["truncated"]).lower(),
        "Footfall-Warnings": " ".join(about["warnings"]).encode("ascii", "replace").decode(),
        "Content-Disposition": f'attachment; filename="footfall.{kind.suffix}"',
        "Cache-Control": "private, no-store",
        "Vary": "Accept, Authorization",
    }
    return Stream(content, media_type=kind.media_type, headers=headers)
