"""A client that takes nothing of its answer for half a minute is cut off.

The server stops a handler that sends faster than its client reads. Without a limit a client that
reads nothing would hold that handler, and what it holds, for ever. A large answer goes in pieces,
since the server keeps what it was given until the client has it.
"""

import asyncio
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.middleware.base import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

WRITE_WITHIN_S: Final = 30.0
PIECE_BYTES: Final = 64 << 10


class SlowReaders(ASGIMiddleware):
    """A time-out for each piece of a large answer; outside of what computes answers."""

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
            given: Any = message
            body = given.get("body", b"")
            if message["type"] != "http.response.body":
                await send(message)
                return
            streams = streams or bool(given.get("more_body")) or len(body) > PIECE_BYTES
            if not streams:
                await send(message)
                return
            for start in range(0, max(1, len(body)), PIECE_BYTES):
                end = start + PIECE_BYTES
                more = end < len(body) or bool(given.get("more_body"))
                piece: Any = {**given, "body": body[start:end], "more_body": more}
                async with asyncio.timeout(self._write_within_s):
                    await send(piece)

        await next_app(scope, receive, send_in_time)
