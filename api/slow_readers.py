"""A client that takes nothing of its answer for half a minute is cut off.

The server stops a handler that sends faster than its client reads. Without a limit a client that
reads nothing would hold that handler, and what it holds, for ever.
"""

import asyncio
from typing import Final

from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

WRITE_WITHIN_S: Final = 30.0


class SlowReaders(ASGIMiddleware):
    """The outermost of the middlewares: a time-out for each piece of a streamed answer."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, write_within_s: float = WRITE_WITHIN_S) -> None:
        self._write_within_s = write_within_s

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Send each piece within the limit.

        Raises:
            TimeoutError: the client did not take a piece; its connection is closed.
        """

        streams = False

        async def send_in_time(message: Message) -> None:
            # The server takes a whole answer at once; only pieces wait for those before them.
            nonlocal streams
            streams = streams or bool(message.get("more_body"))
            if not streams:
                await send(message)
                return
            async with asyncio.timeout(self._write_within_s):
                await send(message)

        await next_app(scope, receive, send_in_time)
