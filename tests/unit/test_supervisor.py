"""Background tasks are restarted, logged and counted."""

import asyncio

import pytest
from structlog.testing import capture_logs

from background.supervisor import FAILURES, RUNNING, Supervisor


class FatalError(Exception):
    pass


def failures(task: str) -> float:
    return float(FAILURES.labels(task)._value.get())


async def test_a_task_that_raises_is_logged_counted_and_started_again() -> None:
    runs = 0
    again = asyncio.Event()

    async def fails_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("injected")
        again.set()
        await asyncio.Event().wait()

    before = failures("fails_once")
    with capture_logs() as logs:
        async with Supervisor(retry_s=(0.01,)) as supervisor:
            supervisor.start("fails_once", fails_once)
            await asyncio.wait_for(again.wait(), 5)
            health = supervisor.health["fails_once"]
            running = RUNNING.labels("fails_once")._value.get()
    assert (health.state, health.failures, health.error) == (
        "failing",
        1,
        "ValueError('injected')",
    )
    assert running == 1
    assert failures("fails_once") - before == 1
    (line,) = logs
    assert line["event"] == "background_task_failed"
    assert line["task"] == "fails_once"
    assert line["exc_info"]


async def test_a_task_that_returns_is_started_again() -> None:
    runs = 0
    third = asyncio.Event()

    async def returns() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()

    async with Supervisor(retry_s=(0.01,)) as supervisor:
        supervisor.start("returns", returns)
        await asyncio.wait_for(third.wait(), 5)
        assert supervisor.health["returns"].failures >= 2
        assert "TaskEndedError" in str(supervisor.health["returns"].error)


async def test_one_failing_task_leaves_the_others_running() -> None:
    beats = 0
    enough = asyncio.Event()

    async def fails() -> None:
        raise RuntimeError("always")

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            if beats == 50:
                enough.set()
            await asyncio.sleep(0.001)

    async with Supervisor(retry_s=(0.001,)) as supervisor:
        supervisor.start("fails", fails)
        supervisor.start("beat", beat)
        await asyncio.wait_for(enough.wait(), 5)
        assert supervisor.health["beat"].state == "ok"
        assert supervisor.health["fails"].state == "failing"


async def test_a_fatal_error_ends_the_wait() -> None:
    async def halts() -> None:
        raise FatalError("the topic is another one")

    async with Supervisor((FatalError,)) as supervisor:
        supervisor.start("halts", halts)
        with pytest.raises(FatalError, match="another one"):
            await asyncio.wait_for(supervisor.wait(), 5)


async def test_a_healthy_task_that_is_closed_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def runs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Supervisor() as supervisor:
        supervisor.start("runs", runs)
        await asyncio.sleep(0)
        assert supervisor.health["runs"].state == "ok"
    assert cancelled.is_set()


async def test_names_are_unique() -> None:
    async with Supervisor() as supervisor:
        supervisor.start("one", asyncio.Event().wait)
        with pytest.raises(ValueError, match="exists already"):
            supervisor.start("one", asyncio.Event().wait)
