"""Counters of the current minute that all workers of a server share, in memory of a fixed size.

A table of slots in a file that each worker maps. There is no lock: two workers that count in one
slot at the same instant may lose a point, which a limit can bear. When a minute sees more names
than a probe has free slots, the name with the least points is forgotten.
"""

import mmap
import struct
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

SLOTS: Final = 1 << 16
PROBES: Final = 16
WINDOW_S: Final = 60
MOST: Final = 2**32 - 1  # points that a slot can hold
_SLOT: Final = struct.Struct("<QII")  # hash of the name, minute since the epoch, points


class Counters:
    """Points spent by name in the current minute. One mebibyte, whoever asks."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory

    @classmethod
    def open(cls, file: Path | None) -> Self:
        """Shared through a file, or this process's alone."""
        size = SLOTS * _SLOT.size
        if file is None:
            return cls(bytearray(size))
        with file.open("ab") as made:
            made.truncate(size)
        with file.open("r+b") as opened:
            return cls(mmap.mmap(opened.fileno(), size))

    def spent(self, name: str) -> int:
        """Points that a name has spent this minute."""
        _, points = self._find(_key(name), _minute())
        return points

    def spend(self, name: str, points: int, limit: int = MOST) -> int | None:
        """Add to what a name has spent this minute, unless that would exceed the limit.

        Returns:
            What the name has spent now; None where nothing was added.
        """
        key, minute = _key(name), _minute()
        at, spent = self._find(key, minute)
        if spent + points > limit:
            return None
        if at is None:
            at = self._cheapest(key, minute)
        _SLOT.pack_into(self._memory, at, key, minute, spent + points)
        return spent + points

    def _find(self, key: int, minute: int) -> tuple[int | None, int]:
        for at in _places(key):
            held, then, points = _SLOT.unpack_from(self._memory, at)
            if held == key and then == minute:
                return at, points
        return None, 0

    def _cheapest(self, key: int, minute: int) -> int:
        """A slot that is free, else the one that forgetting costs least."""

        def cost(at: int) -> int:
            _, then, points = _SLOT.unpack_from(self._memory, at)
            return points if then == minute else -1

        return min(_places(key), key=cost)


def seconds_left() -> int:
    """Until the minute ends, at least one."""
    return WINDOW_S - int(time.time()) % WINDOW_S


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def _minute() -> int:
    return int(time.time() // WINDOW_S)


def _places(key: int) -> Iterator[int]:
    for probe in range(PROBES):  # nearly always the first is the one
        yield (key + probe) % SLOTS * _SLOT.size
