"""The last resort of processing: a batch that raises is halved until its culprits are found.

It should never run: each message that it finds is a gap in the transform, to be closed there.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import structlog

from events.batch import Messages, Processed

log = structlog.get_logger(__name__)

_PANIC: Final = "PanicException"  # each Rust extension has its own, derived from BaseException


def is_unexpected(error: BaseException) -> bool:
    """Whether an error may be due to what a message holds, not to the process or machine."""
    if type(error).__name__ == _PANIC:
        return True
    return isinstance(error, Exception) and not isinstance(error, MemoryError | OSError)


def isolated(
    messages: Messages,
    error: BaseException,
    *,
    attempt: Callable[[Messages], Processed],
    give_up: Callable[[Messages, str], Processed],
) -> Processed:
    """What becomes of a batch that raised: `give_up` for the messages at fault, one by one, and
    `attempt` for all the others, in their order.

    Args:
        error: what the batch raised.
        attempt: processes messages, and may raise.
        give_up: makes a reject of a single message, with the name of the error.
    """
    if len(messages) == 1:
        _report(messages, error)
        return give_up(messages, type(error).__name__)
    half = len(messages) // 2
    parts = []
    for start, end in ((0, half), (half, len(messages))):
        part = messages.take(np.arange(start, end))
        try:
            parts.append(attempt(part))
        except BaseException as again:
            if not is_unexpected(again):
                raise
            parts.append(isolated(part, again, attempt=attempt, give_up=give_up))
    return Processed(
        pl.concat([part.rows for part in parts]),
        pl.concat([part.items for part in parts]),
        pl.concat([part.rejects for part in parts]),
    )


def _report(messages: Messages, error: BaseException) -> None:
    """Log the message's place and the error's, not its text: that may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if Path(each.filename).parent == Path(__file__).parent]
    log.error(
        "a message could not be processed and was rejected as transform_gap; "
        "fix the transform, then reprocess it",
        kafka_partition=int(messages.partitions[0]),
        log_offset=int(messages.offsets[0]),
        error=type(error).__name__,
        raised_in=f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else None,
    )
