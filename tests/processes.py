"""Footfall's own commands as processes of a test."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child whose output is kept, and which ends with the test."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path = ROOT) -> None:
        self.lines: list[str] = []
        self._child = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Until the child has said something with `text` in it."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            told = "\n".join([f"the child did not say {text!r}, but:", *self.lines])
            assert time.monotonic() < deadline, told
            assert self._child.poll() is None, told
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self._child.send_signal(number)

    def end(self, seconds: float = 30) -> int:
        """Wait for its end; its exit code."""
        code = self._child.wait(seconds)
        self._reader.join(5)
        return code

    def close(self) -> None:
        """End it whatever it does: in order, so that it can end its own children, or by force."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(10)
        self._reader.join(5)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.lines.append(line.rstrip())


@contextmanager
def footfall(*words: str, environment: dict[str, str]) -> Iterator[Process]:
    """`footfall WORDS` as a process."""
    process = Process([sys.executable, "-m", "footfall", *words], environment)
    try:
        yield process
    finally:
        process.close()


@contextmanager
def script(path: Path, *words: str, environment: dict[str, str]) -> Iterator[Process]:
    """A script of the tests as a process."""
    process = Process([sys.executable, str(path), *words], environment)
    try:
        yield process
    finally:
        process.close()


def wait_until(
    true: Callable[[], bool], seconds: float, otherwise: str, every: float = 0.1
) -> None:
    """Until something is true.

    Raises:
        AssertionError: it did not become so in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(every)
