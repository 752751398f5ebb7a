"""Short-lived memories of the catalogue: a few seconds old at most while it answers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

from db.errors import kind_of

log = structlog.get_logger(__name__)

REMEMBER_S: Final = 5.0  # how long a key or the map may be out of date
ANSWER_S: Final = 3.0  # how long the catalogue may take before it counts as away
OUTAGE_S: Final = 3600.0  # how long the last known is used while the catalogue is away
_MOST: Final = 100_000

Name = TypeVar("Name")
Value = TypeVar("Value")


@dataclass(slots=True)
class Memory(Generic[Name, Value]):
    """What `load` last gave for a name.

    The catalogue lives in one shard. While that is away the others' merchants get their answers by
    what was last known; what was never known is an error. A key cannot be revoked meanwhile, for
    that is written to the catalogue too.
    """

    load: Callable[[Name], Awaitable[Value]]
    remember_s: float = REMEMBER_S  # how long what was found may be out of date
    _held: dict[Name, tuple[float, float, Value]] = field(default_factory=dict)
    _loading: dict[Name, asyncio.Task[Value]] = field(default_factory=dict)

    async def get(self, name: Name) -> Value:
        """The value, as it was at most so many seconds ago.

        Raises:
            asyncpg.PostgresError, OSError, TimeoutError: the catalogue is away, and it is unknown.
        """
        held = self._held.get(name)
        now = time.monotonic()
        if held is not None and now - held[0] <= self._patience(held[2]):
            return held[2]
        try:
            value = await self._once(name)
        except Exception as error:
            if held is None or kind_of(error) != "transient" or now - held[1] > OUTAGE_S:
                raise
            log.warning("catalogue_away", error=repr(error))
            self._held[name] = (time.monotonic(), held[1], held[2])  # asked again in five seconds
            return held[2]
        if len(self._held) > _MOST:
            self._held.clear()
        self._held[name] = (now, now, value)
        return value

    def held(self, name: Name) -> Value | None:
        """The value, where it is known without asking."""
        held = self._held.get(name)
        if held is None or time.monotonic() - held[0] > self._patience(held[2]):
            return None
        return held[2]

    def _patience(self, value: Value) -> float:
        """What was not there may be made at any time."""
        return self.remember_s if value is not None else min(self.remember_s, REMEMBER_S)

    async def renew(self, name: Name) -> Value:
        """The value as it is now, by a load that began now; what was known stays known meanwhile.

        Raises:
            asyncpg.PostgresError, OSError, TimeoutError: the catalogue is away.
        """
        value = await asyncio.wait_for(_awaited(self.load(name)), ANSWER_S)
        now = time.monotonic()
        self._held[name] = (now, now, value)
        return value

    def forget(self, name: Name) -> None:
        """It was changed here: ask anew."""
        self._held.pop(name, None)

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
