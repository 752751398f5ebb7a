"""A supervisor for the background tasks of one process.

A bare `asyncio.create_task` that raises dies silently: nobody awaits it. Every long-running task of
the API, the ingester and the mover runs under a supervisor instead, so that a failure is logged,
counted, visible in health and telemetry, and the task runs again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import structlog
from prometheus_client import Counter, Gauge

log = structlog.get_logger(__name__)

RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
STABLE_S: Final = 10.0  # a task that has run this long since its last failure is healthy again

FAILURES: Final = Counter(
    "footfall_task_failures", "Background tasks that failed and were started again", ["task"]
)
RUNNING: Final = Gauge(
    "footfall_task_running",
    "1 while a background task runs, 0 while it waits for a restart",
    ["task"],
    multiprocess_mode="livemin",
)

Run = Callable[[], Awaitable[object]]


class TaskEndedError(Exception):
    """A background task returned although nobody stopped it."""


@dataclass(frozen=True, slots=True)
class TaskHealth:
    """State of one task: "ok" or "failing", with its last error and its number of failures."""

    state: str
    failures: int
    error: str | None


@dataclass(slots=True)
class _Watched:
    failures: int = 0
    error: str | None = None
    failed_at: float = 0.0


class Supervisor:
    """Runs named background tasks until it is closed; an async context manager.

    A task that raises or returns is started again after 0.1 to 5 seconds, longer with each failure
    in a row. An exception of a type in `fatal` is not retried: it ends `wait`, and with it the
    process.
    """

    def __init__(
        self, fatal: tuple[type[Exception], ...] = (), *, retry_s: tuple[float, ...] = RETRY_S
    ) -> None:
        self._fatal = fatal
        self._retry_s = retry_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watched: dict[str, _Watched] = {}

    def start(self, name: str, run: Run) -> None:
        """Start a task. `name` is its label in logs, health and telemetry; unique per process.

        Raises:
            ValueError: a task of this name exists already.
        """
        if name in self._tasks:
            raise ValueError(f"background task {name} exists already")
        self._watched[name] = _Watched()
        self._tasks[name] = asyncio.create_task(self._supervise(name, run), name=name)

    @property
    def health(self) -> dict[str, TaskHealth]:
        """State of each task. A task counts as failing until it has run for ten seconds."""
        now = time.monotonic()
        return {
            name: TaskHealth(
                "failing" if each.failures and now - each.failed_at < STABLE_S else "ok",
                each.failures,
                each.error,
            )
            for name, each in self._watched.items()
        }

    async def wait(self) -> None:
        """Return only by raising the first fatal error of a task."""
        if not self._tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def close(self) -> None:
        """Cancel every task and wait until they have ended."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _supervise(self, name: str, run: Run) -> None:
        watched, in_a_row = self._watched[name], 0
        while True:
            RUNNING.labels(name).set(1)
            started = time.monotonic()
            try:
                await run()
                raise TaskEndedError(f"background task {name} returned")
            except self._fatal:
                RUNNING.labels(name).set(0)
                raise
            except Exception as error:
                RUNNING.labels(name).set(0)
                FAILURES.labels(name).inc()
                watched.failures += 1
                watched.error = repr(error)[:500]
                watched.failed_at = time.monotonic()
                in_a_row = 0 if watched.failed_at - started >= STABLE_S else in_a_row
                wait_s = self._retry_s[min(in_a_row, len(self._retry_s) - 1)]
                in_a_row += 1
                log.exception("background_task_failed", task=name, restart_in_s=wait_s)
            await asyncio.sleep(wait_s)
            watched.failed_at = time.monotonic()
