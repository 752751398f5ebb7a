"""Short-lived caches of the catalogue: a few seconds old at most while it answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog
from cachetools import LRUCache

from db.errors import kind_of

log = structlog.get_logger(__name__)

REMEMBER_S: Final = 5.0  # how long a key or the map may be out of date
ANSWER_S: Final = 3.0  # how long the catalogue may take before it counts as away
OUTAGE_S: Final = 3600.0  # how long the last known is used while the catalogue is away
_MOST: Final = 50_000
_MOST_MISSING: Final = 5_000  # names that anyone may make up crowd out only each other

Name = TypeVar("Name")
Value = TypeVar("Value")
Entry = tuple[float, float, Value]  # when it is taken for known, when it was loaded, the value


@dataclass(slots=True)
class Memory(Generic[Name, Value]):
    """What `load` last gave for a name; at most 50,000 values and 5,000 misses.

    The catalogue lives in one shard. While that is away the other shards' merchants get their
    answers by what was last known; what was never known is an error.
    """

    load: Callable[[Name], Awaitable[Value]]
    remember_s: float = REMEMBER_S  # how long what was found may be out of date
    _found: LRUCache[Name, Entry[Value]] = field(default_factory=lambda: LRUCache(_MOST))
    _missing: LRUCache[Name, Entry[Value]] = field(default_factory=lambda: LRUCache(_MOST_MISSING))
    _loading: dict[Name, asyncio.Task[Value]] = field(default_factory=dict)

    async def get(self, name: Name) -> Value:
        """The value, as it was at most so many seconds ago.

        Raises:
            asyncpg.PostgresError, OSError, TimeoutError: the catalogue is away, and it is unknown.
        """
        entry = self._entry(name)
        now = time.monotonic()
        if entry is not None and now - entry[0] <= self._patience(entry[2]):
            return entry[2]
        try:
            value = await self._once(name)
        except Exception as error:
            if entry is None or kind_of(error) != "transient" or now - entry[1] > OUTAGE_S:
                raise
            log.warning("catalogue_away", error=repr(error))
            # asked again in five seconds
            self._keep(name, (time.monotonic(), entry[1], entry[2]))
            return entry[2]
        self._keep(name, (now, now, value))
        return value

    def held(self, name: Name) -> Value | None:
        """The value, where it is known without asking."""
        entry = self._entry(name)
        if entry is None or time.monotonic() - entry[0] > self._patience(entry[2]):
            return None
        return entry[2]

    async def renew(self, name: Name) -> Value:
        """The value as it is now, by a load that began now; what was known stays known meanwhile.

        Raises:
            asyncpg.PostgresError, OSError, TimeoutError: the catalogue is away.
        """
        value = await asyncio.wait_for(_awaited(self.load(name)), ANSWER_S)
        now = time.monotonic()
        self._keep(name, (now, now, value))
        return value

    def forget(self, name: Name) -> None:
        """It was changed: ask anew."""
        self._found.pop(name, None)
        self._missing.pop(name, None)

    def __len__(self) -> int:
        return len(self._found) + len(self._missing)

    def _entry(self, name: Name) -> Entry[Value] | None:
        return self._found.get(name) or self._missing.get(name)

    def _keep(self, name: Name, entry: Entry[Value]) -> None:
        self.forget(name)
        (self._missing if entry[2] is None else self._found)[name] = entry

    def _patience(self, value: Value) -> float:
        """What was not there may be made at any time."""
        return self.remember_s if value is not None else min(self.remember_s, REMEMBER_S)

    async def _once(self, name: Name) -> Value:
        """Many requests that miss together load once."""
        task = self._loading.get(name)
        if task is None:
            task = asyncio.create_task(asyncio.wait_for(_awaited(self.load(name)), ANSWER_S))
            self._loading[name] = task
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(task)


async def _awaited(value: Awaitable[Value]) -> Value:
    return await value
