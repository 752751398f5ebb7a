"""An archive: what the log holds of a window, kept in files beyond the log's retention, with a
manifest that says what each file must be."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from db.history import Offsets
from reprocess.archive_files import (
    FORMATS,
    ArchiveWriter,
    BrokenArchiveError,
    Kept,
    Origin,
    origin_of,
    read_archive,
    sync,
)
from reprocess.log_source import LogSource
from reprocess.topic_log import RefusedError

MANIFEST: Final = "manifest.json"
_PIECE: Final = 1 << 20
Tick = Callable[[int], None]


class ArchivedFile(msgspec.Struct, frozen=True):
    """One file, as it was when it was written."""

    name: str
    partition: int
    ranges: list[Offsets]
    messages: int
    first_offset: int
    last_offset: int
    first_logged_ms: int
    last_logged_ms: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an archive's folder holds. It is written last: a folder without one is unfinished."""

    format: int
    topic: str
    topic_id: str
    written_at: str
    window: tuple[str, str] | None  # of event time; none where offsets were asked for
    files: list[ArchivedFile]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of one partition is to be archived."""

    partition: int
    ranges: list[Offsets]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one file came to."""

    name: str
    messages: int
    compared: int  # messages that the log still holds, each the same
    wrong: str | None


async def write_archive(
    source: LogSource,
    wanted: Sequence[Wanted],
    folder: Path,
    *,
    origin: tuple[str, str],
    kind: str = "parquet",
    window: tuple[str, str] | None = None,
    tick: Tick = lambda _: None,
) -> Manifest:
    """Write a file for each partition, then the manifest; a batch at a time is in memory.

    Args:
        origin: the topic and its id.
        kind: `parquet` or `jsonl`.

    Raises:
        RefusedError: the folder holds an archive already.
        KafkaException: the log no longer holds a range, or does not answer.
    """
    _prepare(folder)
    files = []
    for each in wanted:
        written = await _write_file(source, each, folder, origin, kind=kind, tick=tick)
        if written is not None:
            files.append(written)
    manifest = Manifest(1, *origin, datetime.now(UTC).isoformat(), window, files)
    part = folder / f"{MANIFEST}.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    sync(part)
    part.replace(folder / MANIFEST)
    return manifest


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        raise RefusedError(f"{folder} holds an archive already: give another folder")


async def _write_file(
    source: LogSource,
    wanted: Wanted,
    folder: Path,
    origin: tuple[str, str],
    *,
    kind: str,
    tick: Tick,
) -> ArchivedFile | None:
    ending, writer_of = FORMATS[kind]
    first, last = wanted.ranges[0][0], wanted.ranges[-1][1] - 1
    path = folder / f"{origin[0]}-{wanted.partition:05d}-{first}-{last}{ending}"
    part = path.with_name(path.name + ".part")
    writer: ArchiveWriter = writer_of(part, Origin(*origin, wanted.partition, wanted.ranges))
    count, offsets, logged = 0, [], []
    try:
        async for kept in source.read_with_keys(wanted.partition, wanted.ranges):
            writer.write(kept)
            count += len(kept)
            offsets += [int(kept.messages.offsets[0]), int(kept.messages.offsets[-1])]
            logged += [int(kept.messages.logged_ms.min()), int(kept.messages.logged_ms.max())]
            tick(len(kept))
    finally:
        writer.close()
    if count == 0:  # only markers of transactions
        part.unlink()
        return None
    sync(part)
    part.replace(path)
    return ArchivedFile(
        path.name,
        wanted.partition,
        wanted.ranges,
        count,
        min(offsets),
        max(offsets),
        min(logged),
        max(logged),
        path.stat().st_size,
        _sha256(path),
    )


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an archive's folder.

    Raises:
        BrokenArchiveError: there is none, or it cannot be read.
    """
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenArchiveError(f"{folder}: no archive that was finished ({error})") from error


async def verify_file(
    source: LogSource,
    folder: Path,
    manifest: Manifest,
    written: ArchivedFile,
    *,
    low: int | None,
    tick: Tick = lambda _: None,
) -> Verdict:
    """Read a file back and compare it with the manifest, and with the log from offset `low` on;
    None where the log is another one."""
    path = folder / written.name
    count = compared = 0
    try:
        if path.stat().st_size != written.bytes or _sha256(path) != written.sha256:
            raise BrokenArchiveError("its bytes are not those that were written")
        origin = origin_of(path)
        said = Origin(manifest.topic, manifest.topic_id, written.partition, written.ranges)
        if origin != said:
            raise BrokenArchiveError(f"it says that it is {origin}, the manifest {said}")
        in_log = _InLog(source, written, low)
        for kept in read_archive(path):
            count += len(kept)
            compared += await in_log.compare(kept)
            tick(len(kept))
        await in_log.end()
        if count != written.messages:
            raise BrokenArchiveError(f"{count} messages, the manifest says {written.messages}")
    except (BrokenArchiveError, OSError) as error:
        return Verdict(written.name, count, compared, str(error))
    return Verdict(written.name, count, compared, None)


class _InLog:
    """The same messages in the log, read beside the file."""

    def __init__(self, source: LogSource, written: ArchivedFile, low: int | None) -> None:
        ranges = [] if low is None else [(max(s, low), e) for s, e in written.ranges if e > low]
        self._low = low
        self._batches: AsyncIterator[Kept] = source.read_with_keys(written.partition, ranges)
        self._held: list[tuple[int, int, bytes | None, bytes | None]] = []

    async def compare(self, kept: Kept) -> int:
        """How many of these the log still holds.

        Raises:
            BrokenArchiveError: one of them differs.
        """
        ours = [each for each in _records(kept) if self._low is not None and each[0] >= self._low]
        while len(self._held) < len(ours):
            batch = await anext(self._batches, None)
            if batch is None:
                break
            self._held += _records(batch)
        theirs, self._held = self._held[: len(ours)], self._held[len(ours) :]
        if theirs != ours:
            pairs = zip(ours, theirs, strict=False)
            at = next((a[0] for a, b in pairs if a != b), ours[min(len(theirs), len(ours) - 1)][0])
            raise BrokenArchiveError(f"at offset {at} it is not what the log holds")
        return len(ours)

    async def end(self) -> None:
        """The log must hold no more than the file did."""
        more: Kept | None = await anext(self._batches, None)
        if self._held or more is not None:
            raise BrokenArchiveError("the log holds messages of its ranges that it lacks")


def _records(kept: Kept) -> Iterator[tuple[int, int, bytes | None, bytes | None]]:
    messages = kept.messages
    return zip(
        messages.offsets.tolist(),
        messages.logged_ms.tolist(),
        kept.keys,
        messages.values,
        strict=True,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
