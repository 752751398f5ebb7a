"""The two clients: the same questions, waited for by a thread or by a task."""

import asyncio
import time
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from footfall_client.asks import Ask, Call
from footfall_client.problem import Problem
from footfall_client.retry import STANDARD, Patience, tries

T = TypeVar("T")
_TIMEOUT: Final = httpx.Timeout(30, connect=5)


def _settings(url: str, key: str, transport: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "footfall-client"}
    return {"base_url": url, "headers": headers, "timeout": _TIMEOUT, "transport": transport}


def _request(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    return http.build_request(
        call.method, call.path, params=call.params, content=call.content, headers=call.headers
    )


class Footfall:
    """A shop's Footfall, for threads. Close it, or use it as a context manager."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience: Patience = STANDARD,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._patience = patience
        self._http = httpx.Client(**_settings(url, key, transport))

    def ask(self, question: Ask[T]) -> T:
        """The answer.

        Raises:
            Problem: the server refused, and asking again would not or did not help.
            httpx.TransportError: it cannot be reached.
        """
        request = _request(self._http, question.call())
        trying = tries(self._patience)
        wait = next(trying)
        while True:
            time.sleep(wait)
            try:
                wait = trying.send(_attempt(self._http, request))
            except StopIteration as done:
                return _read(question, done.value)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncFootfall:
    """The same for asyncio."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience: Patience = STANDARD,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience
        self._http = httpx.AsyncClient(**_settings(url, key, transport))

    async def ask(self, question: Ask[T]) -> T:
        """The answer.

        Raises:
            Problem: the server refused, and asking again would not or did not help.
            httpx.TransportError: it cannot be reached.
        """
        request = _request(self._http, question.call())
        trying = tries(self._patience)
        wait = next(trying)
        while True:
            await asyncio.sleep(wait)
            try:
                wait = trying.send(await _attempt_async(self._http, request))
            except StopIteration as done:
                return _read(question, done.value)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _read(question: Ask[T], answer: httpx.Response) -> T:
    try:
        return question.read(answer.content)
    except msgspec.DecodeError as error:  # something between us and the server answered
        raise Problem(answer.status_code, answer.content, None) from error


def _attempt(http: httpx.Client, request: httpx.Request) -> httpx.Response | httpx.TransportError:
    try:
        return http.send(request)
    except httpx.TransportError as error:
        return error


async def _attempt_async(
    http: httpx.AsyncClient, request: httpx.Request
) -> httpx.Response | httpx.TransportError:
    try:
        return await http.send(request)
    except httpx.TransportError as error:
        return error
