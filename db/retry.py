"""Calls that are tried again where the world, not the call, was at fault."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from db.errors import TROUBLES, kind_of

log = structlog.get_logger(__name__)

WAITS_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
T = TypeVar("T")


async def patiently(
    call: Callable[[], Awaitable[T]],
    waits: Sequence[float] = WAITS_S,
    of: tuple[type[Exception], ...] = TROUBLES,
) -> T:
    """What the call returns, tried again after each wait.

    Args:
        of: the errors after which it may be: without InterfaceError where a connection that is
            lost will not come back.

    Raises:
        the last of them, or one that will not pass by itself.
    """
    for wait in waits:
        try:
            return await call()
        except of as error:
            if kind_of(error) != "transient":
                raise
            log.warning("again", error=repr(error), seconds=wait)
        await asyncio.sleep(wait)
    return await call()
