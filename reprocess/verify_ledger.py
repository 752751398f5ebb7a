"""The ledger proved against the log: every offset covered once, every line counting the rows."""

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import numpy as np
import polars as pl

from db import ledger_audit
from db.ledger import LedgerLine, Span
from db.ledger_audit import LedgerDiffers
from events.transform import LOGIC_VERSION
from ingester.load import instant_or_none
from reprocess.source import Source
from reprocess.work import Work


async def repair_ledger(
    pool: asyncpg.Pool, source: Source, work: Work, differs: Sequence[LedgerDiffers]
) -> None:
    """Repair what was found of one partition, but for offsets that several lines cover: which of
    them is right, the log cannot say.

    Lines for gaps are made from the log's messages; the rows of these messages are compared with
    the log afterwards, as any.
    """
    topic, topic_id = work.run.topic, work.run.topic_id
    for each in differs:
        if each.kind == "gap":
            lines = await _lines_from_log(source, work, each)
            await ledger_audit.add_lines(pool, topic, topic_id, lines, LOGIC_VERSION)
        elif each.kind == "offset":
            await ledger_audit.advance(pool, topic, each.partition, each.end)
    miscounted = [(each.start, each.end) for each in differs if each.kind == "counts"]
    if miscounted:
        await ledger_audit.recount(pool, topic, topic_id, differs[0].partition, miscounted)


async def _lines_from_log(source: Source, work: Work, gap: LedgerDiffers) -> list[LedgerLine]:
    """Lines that cover a gap, one for each batch of its messages; their counts are still zero."""
    lines: list[LedgerLine] = []
    at = gap.start
    async for messages in source.read(gap.partition, [(gap.start, gap.end)]):
        end = int(messages.offsets.max()) + 1
        made = work.logic(messages)
        times = pl.concat([made.rows["ts"], made.rejects["ts"]])
        lines.append(
            LedgerLine(
                span=Span(gap.partition, at, end, _moment(messages.logged_ms.max())),
                messages=len(messages),
                event_rows=0,
                item_rows=0,
                rejects=0,
                duplicates=0,
                min_ts=instant_or_none(made.rows["ts"].min()),
                max_ts=instant_or_none(made.rows["ts"].max()),
                min_logged_at=_moment(messages.logged_ms.min()),
                first_ts=instant_or_none(times.min()),
                last_ts=instant_or_none(times.max()),
            )
        )
        at = end
    if at < gap.end:  # the log has no messages there, such as ends of transactions
        span = Span(gap.partition, at, gap.end, datetime.now(UTC))
        lines.append(LedgerLine(span, 0, 0, 0, 0, 0, None, None, span.logged_at, None, None))
    return lines


def _moment(epoch_ms: np.int64) -> datetime:
    return datetime.fromtimestamp(int(epoch_ms) / 1000, UTC)
