"""Request bodies that are not read to their end, or that break off.

A connection is closed when its request is answered before the body was read: the client, still
writing, may see the close and not the answer. So a refusal first takes in what is left of the body.
A body that breaks off, or whose chunks are malformed, is the client's fault and answered as such.
"""

import asyncio
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

DRAIN_BYTES: Final = 6 << 20
DRAIN_WITHIN_S: Final = 2.0


class RequestBodies:
    """Around the whole application: also what has no route, or not this method, is a refusal."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch the body as it is read, and read the rest of it before a refusal.

        Raises:
            ProblemDetailsException: 400, from within `receive`, where the body breaks off.
        """
        left = scope["type"] == ScopeType.HTTP and _has_body(scope)
        if not left:
            await self._app(scope, receive, send)
            return

        async def receive_whole() -> Any:
            nonlocal left
            message: Any = await receive()
            if message["type"] == "http.request":
                left = bool(message.get("more_body"))
            elif left:
                left = False
                raise problem(
                    400, "body_cut_off", "The body broke off or is malformed: nothing was accepted."
                )
            return message

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400 and left:
                await _drain(receive)
            await send(message)

        await self._app(scope, receive_whole, send_after_body)


def _has_body(scope: Any) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 "))
        for name, value in scope["headers"]
    )


async def _drain(receive: Any) -> None:
    taken = 0
    try:
        async with asyncio.timeout(DRAIN_WITHIN_S):
            while taken <= DRAIN_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return  # it comes too slowly: the connection closes with the answer
