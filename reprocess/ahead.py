"""The next thing is read while the last one is worked on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from db.retry import patiently

Thing = TypeVar("Thing")
Read = TypeVar("Read")


async def one_ahead(
    things: Sequence[Thing],
    read: Callable[[Thing], Awaitable[Read]],
    waits: Sequence[float],
) -> AsyncGenerator[Read]:
    """What was read of each thing, in order; never more than one ahead of what is worked on.

    Args:
        waits: seconds before each time that a read is tried again.

    Raises:
        Exception: what a thing could not be read for, when its turn comes.
    """
    reads = (asyncio.create_task(patiently(partial(read, thing), waits)) for thing in things)
    reading = next(reads, None)
    try:
        while reading is not None:
            found = await reading
            reading = next(reads, None)
            yield found
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
