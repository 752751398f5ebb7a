"""Files into a spool: archives as they were written, services' logs line by line."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from backports import zstd

from db.history import Offsets
from events.batch import Messages
from events.decode import decode
from events.limits import EARLIEST_LOG_MS, Limits
from events.lines import key_of, lines_of
from events.partitions import murmur2
from reprocess.archive_files import Origin, origin_of, read_archive
from reprocess.plan import FileHolds
from reprocess.spool import BATCH, Longs, Spool
from reprocess.topic_log import RefusedError

UNKNOWN: Final = EARLIEST_LOG_MS  # the time of a line that tells none, epoch milliseconds
_ANY_TIME: Final = Limits(max_age_days=10**6, max_ahead_s=10**10)
_PIECE: Final = 1 << 20
_YEAR_9999: Final = 253_402_300_799_000
_SECONDS_UNTIL: Final = 10**11  # a smaller number is a time in seconds, a larger one in ms


@dataclass(slots=True)
class Within:
    """What is looked for: of some partitions and a window of event time."""

    partitions: int  # of the topic
    wanted: frozenset[int]
    start_ms: int
    end_ms: int
    limits: Limits
    merchant_id: int | None = None  # with it, what tells no merchant is kept too


@dataclass(slots=True)
class Told:
    """What the files hold."""

    files: list[FileHolds] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)  # of archives' files
    merchants: dict[int, set[int]] = field(default_factory=dict)  # in the window, by partition

    @property
    def are_archives(self) -> bool:
        """Whether the messages have the log's own offsets."""
        return bool(self.origins)

    def covered(self, partition: int) -> list[Offsets]:
        """The offset ranges of a partition that the files hold whole, joined, in order."""
        joined: list[Offsets] = []
        ranges = [r for each in self.origins if each.partition == partition for r in each.ranges]
        for start, end in sorted(ranges):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return joined


def read_files(
    paths: Sequence[Path], spool: Spool, within: Within, tick: Callable[[int], None]
) -> Told:
    """Read files once into a spool, what is of the window; what they hold.

    Raises:
        RefusedError: a file cannot be read, is given twice, or archives and services' logs, or
            archives of several topics, are mixed.
    """
    origins = [origin_of(path) for path in paths]
    _check_alike(paths, origins)
    connection = spool.connect()
    try:
        reading = _Reading(connection, spool, within, tick)
        for path, origin in zip(paths, origins, strict=True):
            reading.read(path, is_archive=origin is not None)
        spool.finish(connection)
    finally:
        connection.close()
    reading.told.origins = [each for each in origins if each is not None]
    return reading.told


def _check_alike(paths: Sequence[Path], origins: Sequence[Origin | None]) -> None:
    kinds = {None if each is None else (each.topic, each.topic_id) for each in origins}
    if None in kinds and len(kinds) > 1:
        raise RefusedError("archives and services' logs in one run: replay one after the other")
    if len(kinds) > 1:
        raise RefusedError(f"archives of several topics: {', '.join(t[1] for t in kinds if t)}")
    seen: dict[bytes, Path] = {}
    for path in paths:
        digest = _digest(path)
        if digest in seen:
            raise RefusedError(f"{path} is the same as {seen[digest]}: it would count twice")
        seen[digest] = path


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.digest()


@dataclass(slots=True)
class _Reading:
    """Files on their way into a spool."""

    connection: sqlite3.Connection
    spool: Spool
    within: Within
    tick: Callable[[int], None]
    told: Told = field(default_factory=Told)
    lines: int = 0  # of services' logs, over all files

    def read(self, path: Path, *, is_archive: bool) -> None:
        """Take in a file and note what it holds."""
        count = kept = 0
        partitions: set[int] = set()
        first, last = 2**62, -(2**62)
        batches = (_of_archive if is_archive else _of_service)(path, self.within)
        try:
            for messages, ms, merchants in batches:
                count += len(messages)
                partitions |= set(np.unique(messages.partitions).tolist())
                first, last = min(first, int(ms.min())), max(last, int(ms.max()))
                nth = None if is_archive else np.arange(self.lines, self.lines + len(messages))
                self.lines += len(messages)
                kept += self._take(messages, ms, merchants, nth)
                self.tick(len(messages))
        except (OSError, EOFError, zstd.ZstdError) as error:
            raise RefusedError(f"{path}: {error}") from error
        kind = "archive" if is_archive else "service log"
        times = (_moment(first), _moment(last)) if count else (None, None)
        found = FileHolds(str(path), kind, count, kept, tuple(sorted(partitions)), *times)
        self.told.files.append(found)

    def _take(self, messages: Messages, ms: Longs, merchants: Longs, nth: Longs | None) -> int:
        """Keep what is looked for; how many that are."""
        within = self.within
        meant = (ms >= within.start_ms) & (ms < within.end_ms)
        meant &= np.isin(messages.partitions, list(within.wanted))
        if within.merchant_id is not None:
            meant &= np.isin(merchants, [within.merchant_id, -1])
        at = np.flatnonzero(meant)
        if at.size == 0:
            return 0
        own = messages.take(at)
        for partition in np.unique(own.partitions).tolist():
            here = np.unique(merchants[at][own.partitions == partition]).tolist()
            self.told.merchants.setdefault(partition, set()).update(here)
        return self.spool.add(self.connection, own, ms[at], None if nth is None else nth[at])


def _of_archive(path: Path, within: Within) -> Iterator[tuple[Messages, Longs, Longs]]:
    for kept in read_archive(path):
        yield kept.messages, *_told_by(kept.messages, within.limits)


def _of_service(path: Path, within: Within) -> Iterator[tuple[Messages, Longs, Longs]]:
    lines = lines_of(path)
    before = UNKNOWN
    while block := list(islice(lines, BATCH)):
        count = len(block)
        own, merchants = _told_by(
            Messages(
                list(block),
                np.zeros(count, np.int32),
                np.arange(count),
                np.full(count, UNKNOWN, np.int64),
            ),
            _ANY_TIME,
        )
        received = np.fromiter(map(received_ms, block), np.int64, count)
        logged = np.where(received == UNKNOWN, own, received)
        logged = _filled(logged, before)
        if logged[0] == UNKNOWN:
            raise RefusedError(f"{path}: none of its first {count} lines tells a time")
        before = int(logged[-1])
        partitions = np.fromiter(
            (_partition_of(key_of(line), within.partitions) for line in block), np.int32, count
        )
        messages = Messages(list(block), partitions, np.arange(count), logged)
        yield messages, np.where(own == UNKNOWN, logged, own), merchants


def _told_by(messages: Messages, limits: Limits) -> tuple[Longs, Longs]:
    """Event time in ms and merchant of each message, as the transform reads them; a message
    without a time has its log time, one without a merchant -1."""
    count = len(messages)
    plain = Messages(messages.values, messages.partitions, np.arange(count), messages.logged_ms)
    decoded = decode(plain, limits)
    ms, merchants = messages.logged_ms.astype(np.int64), np.full(count, -1, np.int64)
    events, rejects = decoded.events, decoded.rejects
    at = events["place"].to_numpy()
    ms[at], merchants[at] = events["ts_ms"].to_numpy(), events["merchant_id"].to_numpy()
    at = rejects["log_offset"].to_numpy()
    ms[at] = rejects["ts"].dt.epoch("ms").to_numpy()
    merchants[at] = rejects["merchant_id"].fill_null(-1).to_numpy()
    return ms, merchants


def _filled(times: Longs, before: int) -> Longs:
    """A line that tells no time has that of the line before it; at the start, of the next."""
    filled = pl.Series(times).replace(UNKNOWN, None)
    if before != UNKNOWN:
        filled = pl.concat([pl.Series([before], dtype=pl.Int64), filled]).forward_fill()[1:]
    return filled.forward_fill().backward_fill().fill_null(UNKNOWN).to_numpy()


class _Received(msgspec.Struct):
    """When a collector took a line: ours, or Fluent Bit's."""

    received_at: Any = None
    date: Any = None


_received = msgspec.json.Decoder(_Received).decode


def received_ms(line: bytes) -> int:
    """The receive time that a line bears, in `received_at` or `date`, epoch milliseconds."""
    if b'"received_at"' not in line and b'"date"' not in line:
        return UNKNOWN
    try:
        found = _received(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNKNOWN
    value = found.date if found.received_at is None else found.received_at
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return UNKNOWN
        return int(moment.timestamp() * 1000) if moment.tzinfo is not None else UNKNOWN
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN
    ms = value * 1000 if value < _SECONDS_UNTIL else value
    return int(ms) if 0 <= ms < 2**42 else UNKNOWN


@lru_cache(maxsize=100_000)
def _partition_of(key: bytes, partitions: int) -> int:
    """Where a producer that keeps to the contract would have put the message."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def _moment(ms: int) -> datetime:
    """To be shown: what a line claims may lie beyond any calendar."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(max(ms, 0), _YEAR_9999))
