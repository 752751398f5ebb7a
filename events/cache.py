"""A cache whose memory is bounded by entries and by bytes."""

import sys
import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SLOT_BYTES = 200  # a dict entry, its key's tuple and its value, rounded up


def size_of(*texts: str | None) -> int:
    """Bytes that an entry made of these texts occupies, rounded up."""
    return _SLOT_BYTES + sum(sys.getsizeof(text) for text in texts if text is not None)


class BoundedCache(Generic[K, V]):
    """Results by key. It is emptied when the next entry would exceed a bound.

    An entry never changes a result, so emptying costs time only. Threads may share one.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._entries: dict[K, V] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """Bytes that the entries occupy, by the sizes given to `put`."""
        return self._bytes

    def get(self, key: K) -> V | None:
        """The cached result, or None."""
        return self._entries.get(key)

    def put(self, key: K, value: V, size: int) -> None:
        """Cache a result; `size` is what key and value occupy, in bytes."""
        with self._lock:
            if key in self._entries or size > self._max_bytes:
                return
            if len(self._entries) >= self._max_entries or self._bytes + size > self._max_bytes:
                self._entries.clear()
                self._bytes = 0
            self._entries[key] = value
            self._bytes += size
