"""Events gathered and sent in the background: the one who adds them never waits for the network."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpx

from footfall_client.answers import Rejected
from footfall_client.asks import MAX_EVENTS, Send, identified
from footfall_client.client import Footfall
from footfall_client.problem import Problem

log = logging.getLogger("footfall_client")

Event = dict[str, Any]
# Told of events that will not be counted, with the reason.
Lost = Callable[[Sequence[Event], "Problem | httpx.TransportError | Rejected"], None]
_END: Final = object()


class QueueFullError(Exception):
    """More events wait than the queue holds: this one was not taken."""


def _warn(events: Sequence[Event], why: object) -> None:
    log.warning("%d events were not counted: %s", len(events), why)


class EventQueue:
    """Takes events one by one, sends them in batches, in order, by a thread of its own.

    It serves asyncio as well: `add` does not block, and `close` may run in a thread.

    Args:
        client: sends them; it stays open.
        most: how many may wait.
        batch: how many are sent at once.
        linger_s: how long the first of a batch waits for others.
        lost: told of each event that is rejected, or given up when the client's patience ends.
    """

    def __init__(
        self,
        client: Footfall,
        *,
        most: int = 10_000,
        batch: int = 500,
        linger_s: float = 1.0,
        lost: Lost = _warn,
    ) -> None:
        self._client = client
        self._batch = min(batch, MAX_EVENTS)
        self._linger_s = linger_s
        self._lost = lost
        self._waiting: queue.Queue[Any] = queue.Queue(most)
        self._closed = threading.Event()
        self._door = threading.Lock()  # nothing is taken behind the end
        self._thread = threading.Thread(target=self._work, name="footfall-events", daemon=True)
        self._thread.start()

    def add(self, event: Mapping[str, Any]) -> None:
        """Take an event; its id and time are made now.

        Raises:
            QueueFullError: it was not taken.
            ValueError: the queue is closed.
        """
        with self._door:
            if self._closed.is_set():
                raise ValueError("this queue is closed")
            try:
                self._waiting.put_nowait(identified(event))
            except queue.Full:
                raise QueueFullError(f"{self._waiting.maxsize} events wait already") from None

    def flush(self) -> None:
        """Return once everything taken so far was sent or given up."""
        self._waiting.join()

    def close(self) -> None:
        """Take no more, send what waits, end."""
        with self._door:
            first = not self._closed.is_set()
            self._closed.set()
        if first:
            self._waiting.put(_END)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            events, ended = self._gather()
            try:
                if events:
                    self._send(events)
            except Exception:  # of `lost`: the events behind these must still go
                log.exception("%d events: telling of what was lost failed", len(events))
            for _ in range(len(events) + ended):
                self._waiting.task_done()

    def _gather(self) -> tuple[list[Event], bool]:
        """The next batch, and whether it is the last."""
        events: list[Event] = []
        until = float("inf")
        while len(events) < self._batch:
            left = until - time.monotonic()
            try:
                got = self._waiting.get(timeout=None if left == float("inf") else max(left, 0))
            except queue.Empty:
                break
            if got is _END:
                return events, True
            events.append(got)
            until = min(until, time.monotonic() + (0 if self._closed.is_set() else self._linger_s))
        return events, False

    def _send(self, events: list[Event]) -> None:
        try:
            sent = self._client.ask(Send(events))
        except (Problem, httpx.TransportError) as error:
            self._lost(events, error)
        else:
            for rejected in sent.rejected:
                self._lost([events[rejected.index]], rejected)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
