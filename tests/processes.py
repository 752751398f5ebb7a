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
from io import TextIOWrapper
from pathlib import Path
from typing import Final, TextIO

from tests.warm import WarmProcess

ROOT = Path(__file__).parents[1]
HAVE_CHILDREN: Final = {"demo", "serve", "stack"}  # which they start as the command line would


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A child whose output is kept, and which ends with the test."""

    def __init__(self, child: subprocess.Popen[str] | WarmProcess, output: TextIO) -> None:
        self.lines: list[str] = []
        self._child = child
        self._output = output
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

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
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait(10)
        self._reader.join(5)
        self._output.close()

    def _read(self) -> None:
        for line in self._output:
            self.lines.append(line.rstrip())


def begin(command: list[str], environment: dict[str, str], cwd: Path = ROOT) -> Process:
    """A command, to be closed."""
    child = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert isinstance(child.stdout, TextIOWrapper)
    return Process(child, child.stdout)


def begin_warm(words: list[str], environment: dict[str, str]) -> Process:
    """What `WarmProcess` runs, to be closed."""
    reader, writer = os.pipe()
    child = WarmProcess(words, {**os.environ, **environment}, writer, writer)
    os.close(writer)
    return Process(child, os.fdopen(reader))


@contextmanager
def footfall(*words: str, environment: dict[str, str]) -> Iterator[Process]:
    """`footfall WORDS` as a process."""
    if words[0] in HAVE_CHILDREN:
        process = begin([sys.executable, "-m", "footfall", *words], environment)
    else:
        process = begin_warm([*words], environment)
    try:
        yield process
    finally:
        process.close()


@contextmanager
def script(
    path: Path, *words: str, environment: dict[str, str], warm: bool = True
) -> Iterator[Process]:
    """A script of the tests as a process; a cold one if it alters modules before others load."""
    if warm:
        process = begin_warm([str(path), *words], environment)
    else:
        process = begin([sys.executable, str(path), *words], environment)
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
