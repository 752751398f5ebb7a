"""A durable spool: what the broker has not acknowledged yet, on disk with fsync.

Records are appended to segment files. Appends that wait at the same time share one write and one
fsync, so the cost of a request does not grow with what is spooled. Segments are drained oldest
first: a merchant's events reach the topic in the order in which they were accepted.
"""

import asyncio
import fcntl
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Final, Self

Record = tuple[bytes, bytes]  # key, value

MAX_BYTES: Final = 16 << 30
SEGMENT_BYTES: Final = 16 << 20  # what a crash may produce a second time, at most
COMMIT_BYTES: Final = 8 << 20  # of one write and fsync
FREE_BYTES: Final = 1 << 30  # of the disk, left for others
_SHARE: Final = 4  # a merchant may hold a quarter of the budget
_HEAD: Final = struct.Struct(">III")  # length of key, length of value, CRC-32 of both
_OLD_HEAD: Final = struct.Struct(">II")  # of segments written before records had a checksum
_READ_BYTES: Final = 1 << 20


class SpoolFullError(Exception):
    """The disk budget, or the merchant's share of it, is used up; nothing was accepted."""


class SpoolBrokenError(Exception):
    """The disk refuses to be written to; nothing was accepted."""


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int = 0
    by_key: Counter[bytes] = field(default_factory=Counter)  # bytes; unknown of an earlier process


class Spool:
    """A directory of segments, which one process holds at a time."""

    def __init__(self, directory: Path, lock_file: IO[bytes], max_bytes: int = MAX_BYTES) -> None:
        self._directory, self._lock_file = directory, lock_file
        self._max_bytes = max_bytes
        for unfinished in directory.glob("*.part"):  # of an older version; never acknowledged
            unfinished.unlink()
        self._sealed = [_Segment(path, path.stat().st_size) for path in segments_in(directory)]
        self._last = max((int(each.path.stem) for each in self._sealed), default=0)
        self._open: tuple[_Segment, int] | None = None  # the one that is appended to, and its file
        self._waiting: list[tuple[bytes, Counter[bytes], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._seal_next = False
        dead = self.dead_letters
        self._dead_bytes = dead.stat().st_size if dead.exists() else 0
        self.held = sum(each.size for each in self._sealed)  # bytes of records on disk or waiting
        self._by_key: Counter[bytes] = Counter()

    @classmethod
    def take(cls, root: Path, max_bytes: int = MAX_BYTES) -> Self:
        """The first numbered directory that no living process holds."""
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in count():
            directory = root / str(number)
            directory.mkdir(exist_ok=True, mode=0o700)
            directory.chmod(0o700)
            lock_file = _locked(directory)
            if lock_file is not None:
                return cls(directory, lock_file, max_bytes)
        raise AssertionError("unreachable")

    @classmethod
    def left_in(cls, directory: Path) -> Self | None:
        """What another process left there; None where one holds it, or it is empty."""
        if not segments_in(directory):
            return None
        lock_file = _locked(directory)
        return None if lock_file is None else cls(directory, lock_file)

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._directory

    @property
    def dead_letters(self) -> Path:
        """Where events are kept that the log refuses: JSON lines, as `footfall load` reads them."""
        return self._directory / "dead-letters.jsonl"

    @property
    def dead_letter_bytes(self) -> int:
        """Bytes of events that the log refused."""
        return self._dead_bytes

    @property
    def pending(self) -> bool:
        """Whether anything waits to be drained."""
        return self.held > 0

    async def flush(self) -> None:
        """Return once nothing waits to be written."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    def close(self) -> None:
        """Leave the directory to the next process. Nothing may wait to be written: see `flush`."""
        self._seal()
        self._lock_file.close()

    async def append(self, records: Sequence[Record]) -> None:
        """On disk, fsynced, when this returns.

        Raises:
            SpoolFullError: no room is left in the budget or in the merchant's share of it.
            SpoolBrokenError: the disk refuses.
        """
        by_key: Counter[bytes] = Counter()
        parts: list[bytes] = []
        for key, value in records:
            parts += (_HEAD.pack(len(key), len(value), zlib.crc32(value, zlib.crc32(key))), key)
            parts.append(value)
            by_key[key] += _HEAD.size + len(key) + len(value)
        content = b"".join(parts)
        self._check_room(len(content), by_key)
        self.held += len(content)
        self._by_key.update(by_key)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((content, by_key, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        await asyncio.shield(done)

    def oldest(self) -> Path | None:
        """The segment to drain next, which nothing is appended to any more."""
        if not self._sealed and self._committing is None:
            self._seal()
        elif not self._sealed:
            self._seal_next = True  # it is being written to: sealed once that has ended
        return self._sealed[0].path if self._sealed else None

    def remove(self, segment: Path) -> None:
        """The oldest segment has been drained."""
        drained = self._sealed[0]
        if drained.path != segment:
            raise ValueError(f"{segment} is not the oldest segment")
        segment.unlink()
        del self._sealed[0]
        self.held -= drained.size
        self._by_key.subtract(drained.by_key)
        self._by_key += Counter()  # keeps what is above zero

    def bury(self, values: Sequence[bytes]) -> None:
        """Keep events that the log refuses, fsynced, until an operator sends them again.

        Raises:
            SpoolFullError: no room is left in the budget.
        """
        content = b"".join(value + b"\n" for value in values)
        if self.held + self._dead_bytes + len(content) > self._max_bytes:
            raise SpoolFullError(f"{self._dead_bytes} bytes of refused events are kept already")
        file = _opened(self.dead_letters)
        try:
            _write(file, content)
        finally:
            os.close(file)
        self._dead_bytes += len(content)

    def _check_room(self, size: int, by_key: Counter[bytes]) -> None:
        if self.held + self._dead_bytes + size > self._max_bytes:
            raise SpoolFullError(f"{self.held} bytes wait in {self._directory}")
        share = self._max_bytes // _SHARE
        for key, more in by_key.items():
            if self._by_key[key] + more > share:
                raise SpoolFullError(f"merchant {key.decode()} has filled its share of the spool")

    async def _commit(self) -> None:
        """Write what waits, a few megabytes at a time, each with one fsync."""
        try:
            while self._waiting:
                taken, size = 0, 0
                while taken < len(self._waiting) and size < COMMIT_BYTES:
                    size += len(self._waiting[taken][0])
                    taken += 1
                group, self._waiting = self._waiting[:taken], self._waiting[taken:]
                await self._commit_group(group)
        finally:
            self._committing = None

    async def _commit_group(
        self, group: list[tuple[bytes, Counter[bytes], asyncio.Future[None]]]
    ) -> None:
        content = b"".join(each for each, _, _ in group)
        by_key: Counter[bytes] = Counter()
        for _, counted, _ in group:
            by_key.update(counted)
        failure: SpoolBrokenError | None = None
        try:
            segment, file = self._appendable()
            await asyncio.to_thread(_write, file, content)
            segment.size += len(content)
            segment.by_key.update(by_key)
            if segment.size >= SEGMENT_BYTES or self._seal_next:
                self._seal()
        except OSError as error:
            failure = SpoolBrokenError(f"{self._directory}: {error.strerror or error}")
            self.held -= len(content)
            self._by_key.subtract(by_key)
            self._seal()  # half a record at its end would hide what is appended behind it
        for _, _, done in group:
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    def _appendable(self) -> tuple[_Segment, int]:
        free = os.statvfs(self._directory)
        if free.f_bavail * free.f_frsize < FREE_BYTES:
            raise OSError(28, f"less than {FREE_BYTES >> 20} MiB of the disk are free")
        if self._open is None:
            path = self._directory / f"{self._last + 1:020d}.segment"
            file = _opened(path)
            self._last += 1
            self._open = (_Segment(path), file)
            _sync_directory(self._directory)  # the new name must survive as well
        return self._open

    def _seal(self) -> None:
        """Append to another segment from here on."""
        self._seal_next = False
        if self._open is None:
            return
        segment, file = self._open
        os.close(file)
        self._open = None
        if segment.size:
            self._sealed.append(segment)
        else:
            segment.path.unlink()


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(directory: Path) -> IO[bytes] | None:
    """The lock of a directory, unless another process holds it."""
    lock_file = os.fdopen(_opened(directory / "lock"), "wb")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.close()
        return None
    return lock_file


def segments_in(directory: Path) -> list[Path]:
    """Its segments, the oldest first."""
    return sorted(directory.glob("*.spool")) + sorted(directory.glob("*.segment"))


def records_of(segment: Path) -> Iterator[Record]:
    """The whole records of a segment, in order, read in bounded memory.

    A record that a crash cut off or damaged was never promised to anyone: it and what follows it
    are left out.
    """
    checked = segment.suffix == ".segment"
    head = _HEAD if checked else _OLD_HEAD
    with segment.open("rb", buffering=_READ_BYTES) as file:
        while True:
            packed = file.read(head.size)
            if len(packed) < head.size:
                return
            key_size, value_size, *crc = head.unpack(packed)
            body = file.read(key_size + value_size)
            if len(body) < key_size + value_size or not value_size:
                return
            key, value = body[:key_size], body[key_size:]
            if checked and zlib.crc32(value, zlib.crc32(key)) != crc[0]:
                return
            yield key, value
