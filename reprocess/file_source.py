"""Files as a source: read once into a spool, then slice by slice from there."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TypeVar

import numpy as np
import polars as pl

from db.history import Offsets
from db.replacement import ReplacementError
from events.batch import Messages
from reprocess.read_files import Told
from reprocess.spool import Spool, ask, ranges_within, read_batch

T = TypeVar("T")


class FileSource:
    """One reader of a spool, on a thread of its own; ended by `close`."""

    def __init__(self, spool: Spool, told: Told) -> None:
        self._spool, self._told = spool, told
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._connection: sqlite3.Connection = spool.connect()

    def end(self, partition: int) -> int:
        """The offset behind the last of the partition's messages."""
        return self._spool.ends.get(partition, 0)

    async def ranges(
        self, partition: int, window: tuple[datetime, datetime], lines: pl.DataFrame
    ) -> list[Offsets]:
        """Where the files hold anything of the window.

        Raises:
            ReplacementError: an archive lacks offsets that the ledger counted in the window.
        """
        if self._told.are_archives:
            missing = uncovered(lines, self._told.covered(partition))
            if missing:
                raise ReplacementError(lacking(partition, missing))
        return await self._on_thread(lambda: ranges_within(self._connection, partition, window))

    async def read(
        self, partition: int, ranges: Sequence[Offsets], *, more: bool = False
    ) -> AsyncIterator[Messages]:
        """Every message of these ranges that is in the window, in order, in batches."""
        for each in ranges:
            cursor = await self._on_thread(partial(ask, self._connection, partition, each))
            while True:
                batch = await self._on_thread(partial(read_batch, cursor, partition))
                if batch is None:
                    break
                yield batch

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._on_thread(self._connection.close)
        self._thread.shutdown()

    async def _on_thread(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, call))


def uncovered(lines: pl.DataFrame, covered: Sequence[Offsets]) -> list[Offsets]:
    """The lines of the ledger that ranges in order do not hold whole."""
    starts = np.array([start for start, _ in covered], np.int64)
    found = []
    for start, end in lines.select("start_offset", "end_offset").iter_rows():
        at = int(np.searchsorted(starts, start, side="right")) - 1
        if at < 0 or covered[at][1] < end:
            found.append((start, end))
    return found


def lacking(partition: int, missing: Sequence[Offsets]) -> str:
    """What to tell of an archive that is not whole."""
    return (
        f"partition {partition}: offsets {missing[0][0]} to {missing[-1][1] - 1} hold events of "
        "the window, and the archive lacks some of them: give all of its files, archive what came "
        "since too, or ask for a window that they hold"
    )
