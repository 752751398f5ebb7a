"""The files of an archive: messages of one partition as Parquet, or as JSON lines, zstd both.

Each file tells whose it is: topic, the topic's id, partition, and the offset ranges that it holds
whole. Offsets mean something only together with the topic's id.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd

from db.history import Offsets
from events.batch import Messages
from events.lines import lines_of
from reprocess.topic_log import RefusedError

BATCH: Final = 50_000
_SCHEMA: Final = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("logged_at_ms", pa.int64(), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
    ]
)
_ORIGIN: Final = b"footfall.archive"


class BrokenArchiveError(RefusedError):
    """A file is not what it was when it was written, or is none of ours."""


class Origin(msgspec.Struct, frozen=True):
    """What a file says of itself."""

    topic: str
    topic_id: str
    partition: int
    ranges: list[Offsets]  # half-open; every message of them is in the file


@dataclass(frozen=True, slots=True)
class Kept:
    """Messages and their keys."""

    messages: Messages
    keys: list[bytes | None]

    def __len__(self) -> int:
        return len(self.keys)


class ArchiveWriter(Protocol):
    """One file being written."""

    def write(self, kept: Kept) -> None: ...

    def close(self) -> None: ...


class ParquetWriter:
    """Parquet: a row group a batch."""

    def __init__(self, path: Path, origin: Origin) -> None:
        metadata = {_ORIGIN: msgspec.json.encode(origin)}
        self._file = pq.ParquetWriter(
            path,
            _SCHEMA.with_metadata(metadata),
            compression="zstd",
            use_dictionary=["key"],
            write_page_checksum=True,
        )

    def write(self, kept: Kept) -> None:
        """Append a batch."""
        messages = kept.messages
        columns = [
            pa.array(messages.partitions, pa.int32()),
            pa.array(messages.offsets, pa.int64()),
            pa.array(messages.logged_ms, pa.int64()),
            pa.array(kept.keys, pa.binary()),
            pa.array(messages.values, pa.binary()),
        ]
        self._file.write_batch(pa.record_batch(columns, schema=_SCHEMA))

    def close(self) -> None:
        """Write the footer."""
        self._file.close()


class _Line(msgspec.Struct, omit_defaults=True):
    """One message as text; what is not UTF-8 stands as base64."""

    partition: int
    offset: int
    logged_at_ms: int
    key: str | None = None
    key_base64: str | None = None
    value: str | None = None
    value_base64: str | None = None


class _Head(msgspec.Struct):
    """The first line."""

    footfall_archive: Origin


class _Foot(msgspec.Struct):
    """The last line: without it the file was cut off."""

    footfall_archive_messages: int


_CHECKED: Final[dict[int, int]] = {zstd.CompressionParameter.checksum_flag: 1}


class LinesWriter:
    """JSON lines: a head, a line a message, a foot."""

    def __init__(self, path: Path, origin: Origin) -> None:
        self._file = zstd.ZstdFile(path, "wb", options=_CHECKED)
        self._encode = msgspec.json.Encoder()
        self._file.write(self._encode.encode(_Head(origin)) + b"\n")
        self._count = 0

    def write(self, kept: Kept) -> None:
        """Append a batch."""
        messages = kept.messages
        lines = [
            _Line(partition, offset, logged, *_as_text(key), *_as_text(value))
            for partition, offset, logged, key, value in zip(
                messages.partitions.tolist(),
                messages.offsets.tolist(),
                messages.logged_ms.tolist(),
                kept.keys,
                messages.values,
                strict=True,
            )
        ]
        self._count += len(lines)
        self._file.write(self._encode.encode_lines(lines))

    def close(self) -> None:
        """Write the foot."""
        self._file.write(self._encode.encode(_Foot(self._count)) + b"\n")
        self._file.close()


FORMATS: Final[dict[str, tuple[str, Any]]] = {
    "parquet": (".parquet", ParquetWriter),
    "jsonl": (".jsonl.zst", LinesWriter),
}


def origin_of(path: Path) -> Origin | None:
    """What a file says of itself; None for a file that is no archive of ours.

    Raises:
        BrokenArchiveError: it cannot be read, or is a Parquet file that does not say.
    """
    try:
        if _is_parquet(path):
            found = (pq.read_schema(path).metadata or {}).get(_ORIGIN)
            if found is None:
                raise BrokenArchiveError(f"{path}: a Parquet file, but not of `footfall archive`")
            return msgspec.json.decode(found, type=Origin)
        first = next(lines_of(path), b"")
    except (OSError, EOFError, zstd.ZstdError, pa.ArrowException) as error:
        raise BrokenArchiveError(f"{path}: {error}") from error
    try:
        return msgspec.json.decode(first, type=_Head).footfall_archive
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_archive(path: Path) -> Iterator[Kept]:
    """The messages of an archive's file, in batches.

    Raises:
        BrokenArchiveError: it was cut off or altered.
    """
    if _is_parquet(path):
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(BATCH):
                    yield _from_columns(pl.DataFrame(pl.from_arrow(batch)))
        except (pa.ArrowException, OSError) as error:
            raise BrokenArchiveError(f"{path}: {error}") from error
    else:
        yield from _read_lines(path)


def _from_columns(frame: pl.DataFrame) -> Kept:
    messages = Messages(
        frame["value"].to_list(),
        frame["partition"].to_numpy().astype(np.int32),
        frame["offset"].to_numpy().astype(np.int64),
        frame["logged_at_ms"].to_numpy().astype(np.int64),
    )
    return Kept(messages, frame["key"].to_list())


def _read_lines(path: Path) -> Iterator[Kept]:
    decode = msgspec.json.Decoder(_Line).decode
    held: list[_Line] = []
    count, total = 0, None
    lines = lines_of(path)
    try:
        next(lines, None)  # the head
        for line in lines:
            if line.startswith(b'{"footfall_archive_messages"'):
                total = msgspec.json.decode(line, type=_Foot).footfall_archive_messages
                continue
            held.append(decode(line))
            if len(held) == BATCH:
                count += len(held)
                yield _from_lines(held)
                held = []
    except (msgspec.DecodeError, zstd.ZstdError, OSError, EOFError, ValueError) as error:
        raise BrokenArchiveError(f"{path}: {error}") from error
    if held:
        count += len(held)
        yield _from_lines(held)
    if count != total:
        said = "its end is missing" if total is None else f"{total} messages were written"
        raise BrokenArchiveError(f"{path}: {count} messages could be read, {said}")


def _from_lines(lines: list[_Line]) -> Kept:
    messages = Messages(
        [_as_bytes(line.value, line.value_base64) for line in lines],
        np.array([line.partition for line in lines], np.int32),
        np.array([line.offset for line in lines], np.int64),
        np.array([line.logged_at_ms for line in lines], np.int64),
    )
    return Kept(messages, [_as_bytes(line.key, line.key_base64) for line in lines])


def _as_text(value: bytes | None) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, b64encode(value).decode()


def _as_bytes(text: str | None, base64: str | None) -> bytes | None:
    if base64 is not None:
        return b64decode(base64, validate=True)
    return None if text is None else text.encode()


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def sync(path: Path) -> None:
    """The file's bytes are on disk when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
