"""Processes that begin with footfall's modules loaded.

Loading them takes longer than what most processes of the tests do then, and the tests start
hundreds. So one process loads them and is forked for each: its children are processes like any
other, with their own pid, environment, output and end.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from signal import SIGKILL
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryFile

_ROOT = Path(__file__).parents[1]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.warmed", __name__])


class WarmProcess:
    """`footfall WORDS`, or a script where the first word is one; the part of `Popen` that we use.

    Args:
        environment: all of its variables.
        stdout: where it writes; it stays the caller's, as does stderr.
    """

    def __init__(
        self, words: Sequence[str], environment: dict[str, str], stdout: int, stderr: int
    ) -> None:
        given = [Connection(os.dup(each), readable=False) for each in (stdout, stderr)]
        self._process = _context.Process(target=_become, args=(list(words), environment, *given))
        self._process.start()
        for each in given:
            each.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, minus a signal's number where one ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended.

        Raises:
            TimeoutExpired: it has not in time.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutExpired("footfall", timeout)
        return code

    def send_signal(self, sig: int) -> None:
        """A signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, sig)


def run(words: Sequence[str], environment: dict[str, str], seconds: float) -> CompletedProcess[str]:
    """`footfall WORDS` to its end.

    Raises:
        TimeoutExpired: it has not ended in time, and was killed.
    """
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        process = WarmProcess(words, environment, stdout.fileno(), stderr.fileno())
        try:
            code = process.wait(seconds)
        finally:
            process.send_signal(SIGKILL)
        for each in (stdout, stderr):
            each.seek(0)
        return CompletedProcess(list(words), code, stdout.read(), stderr.read())


def _become(
    words: list[str], environment: dict[str, str], stdout: Connection, stderr: Connection
) -> None:
    for number, given in ((1, stdout), (2, stderr)):
        os.dup2(given.fileno(), number)
        given.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(_ROOT)
    if words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.argv = ["footfall", *words]
        runpy.run_module("footfall", run_name="__main__", alter_sys=True)
