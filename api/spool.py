"""A durable spool: what the broker has not acknowledged yet, on disk with fsync.

Segments are files of length-prefixed (key, value) records. They are drained oldest first, so a
merchant's events reach the topic in the order in which they were accepted. A record that was cut
off by a crash was never promised to anyone and is left out.
"""

import asyncio
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Final

Record = tuple[bytes, bytes]
_HEAD: Final = struct.Struct(">II")
MAX_BYTES: Final = 4 << 30


class SpoolFullError(Exception):
    """The disk budget is used up."""


class Spool:
    """A directory of segments. Each worker process takes one for itself, the first that is free,
    so that what a worker left behind is drained by the next one that starts."""

    def __init__(self, root: Path) -> None:
        self._directory, self._lock_file = _free_place(root)
        directory = self._directory
        names = sorted(int(path.stem) for path in directory.glob("*.spool"))
        self._last = names[-1] if names else 0
        self._lock = asyncio.Lock()

    def close(self) -> None:
        """Leave the directory to whoever comes next."""
        self._lock_file.close()

    @property
    def pending(self) -> bool:
        """Whether anything waits to be drained."""
        return any(self._directory.glob("*.spool"))

    async def append(self, records: Sequence[Record]) -> None:
        """On disk, fsynced, when this returns.

        Raises:
            SpoolFullError: no room is left in the budget.
        """
        async with self._lock:
            self._last += 1
            await asyncio.to_thread(self._write, self._last, records)

    def segments(self) -> list[Path]:
        """What waits, oldest first."""
        return sorted(self._directory.glob("*.spool"))

    def _write(self, number: int, records: Sequence[Record]) -> None:
        held = sum(path.stat().st_size for path in self._directory.glob("*.spool"))
        content = b"".join(_HEAD.pack(len(k), len(v)) + k + v for k, v in records)
        if held + len(content) > MAX_BYTES:
            raise SpoolFullError(f"{held} bytes wait in {self._directory}")
        path = self._directory / f"{number:020d}.spool"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the new name must survive as well
        finally:
            os.close(descriptor)


def _free_place(root: Path) -> tuple[Path, IO[bytes]]:
    """The first numbered directory that no living process holds, and the lock that now holds it."""
    for number in count():
        directory = root / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return directory, lock
    raise AssertionError("unreachable")


def records_of(segment: Path) -> Iterator[Record]:
    """The whole records of a segment, in order."""
    content = segment.read_bytes()
    at = 0
    while at + _HEAD.size <= len(content):
        key, value = _HEAD.unpack_from(content, at)
        end = at + _HEAD.size + key + value
        if end > len(content):
            return
        middle = at + _HEAD.size + key
        yield content[at + _HEAD.size : middle], content[middle:end]
        at = end
