"""Where messages are read again from."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from db.history import Offsets
from events.batch import Messages


class Source(Protocol):
    """The log, or files that hold what the log no longer does."""

    def read(self, partition: int, ranges: Sequence[Offsets]) -> AsyncIterator[Messages]:
        """The messages of a partition's offsets, in order, in batches of bounded size."""
        ...

    async def close(self) -> None:
        """Leave nothing behind."""
        ...
