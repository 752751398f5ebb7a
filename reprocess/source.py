"""Where messages are read again from."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl

from db.history import Offsets
from events.batch import Messages


class Source(Protocol):
    """The log, or files that hold what the log no longer does."""

    def end(self, partition: int) -> int:
        """The offset behind all that it holds beyond what the ledger knows; 0 for nothing."""
        ...

    async def ranges(
        self, partition: int, window: tuple[datetime, datetime], lines: pl.DataFrame
    ) -> list[Offsets]:
        """The offsets to read for a window, whose lines in the ledger are these.

        Raises:
            ReplacementError: it does not hold what the lines say of the window.
        """
        ...

    def read(
        self, partition: int, ranges: Sequence[Offsets], *, more: bool = False
    ) -> AsyncIterator[Messages]:
        """The messages of a partition's offsets, in order, in batches of bounded size.

        Args:
            more: whether what follows the last of them is asked for next.
        """
        ...

    async def close(self) -> None:
        """Leave nothing behind."""
        ...
