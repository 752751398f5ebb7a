"""Files of JSON lines, plain, .gz or .zst, and the key that a line has on the topic."""

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
from backports import zstd

from events.repeated_keys import first_of


class _Keyed(msgspec.Struct):
    merchant_id: int


_keyed = msgspec.json.Decoder(_Keyed).decode


def key_of(line: bytes) -> bytes:
    """A message's key: its merchant, or nothing where it names none (it will be a reject)."""
    try:
        return str(_keyed(first_of(line, b'"merchant_id"')).merchant_id).encode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, plain, .gz or .zst, without their ends; empty ones left out."""
    with opened(path) as file:
        for line in file:
            stripped = line.rstrip(b"\r\n")
            if stripped:
                yield stripped


def opened(path: Path) -> IO[bytes]:
    """A file for reading, unpacked where its name ends in .gz or .zst."""
    match path.suffix:
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(path))
        case ".zst":
            return io.BufferedReader(zstd.ZstdFile(path))
        case _:
            return path.open("rb")
