"""One embedded TimescaleDB: a Node process that can be started, stopped and killed."""

import json
import subprocess
from pathlib import Path
from typing import Final

from stack.npm import PartMissingError, Say, node_and_npm, say_to_stderr
from stack.parts import wire_server

# Optimising the server's code takes longer than most databases here live: only what runs and runs
# is worth it.
_NODE_OPTIONS: Final = ["--wasm-tiering-budget=100000000"]


class Database:
    """A database server on loopback. Data lives in `data_dir`, or in memory without one."""

    def __init__(self, data_dir: Path | None = None, say: Say = say_to_stderr) -> None:
        self._data_dir = data_dir
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def dsn(self) -> str:
        """The address for any PostgreSQL client."""
        return f"postgresql://footfall@127.0.0.1:{self.port}/footfall"

    def start(self) -> None:
        """Start, and return once it listens; on the same port as before when started again.

        Raises:
            PartMissingError: the server could not be fetched or ended at once.
        """
        folder = wire_server(self._say)
        node, _ = node_and_npm()
        command = [*node, *_NODE_OPTIONS, str(folder / "server.mjs"), str(self.port)]
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            command.append(str(self._data_dir))
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C is for us to hand on, in order
        )
        assert self._process.stdout is not None  # noqa: S101 - Popen was asked for it
        line = self._process.stdout.readline()
        if not line:
            raise PartMissingError("the embedded database ended at once; its output says why")
        self.port = int(json.loads(line)["port"])

    def stop(self) -> None:
        """End it in order."""
        self._end(gently=True)

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(gently=False)

    def _end(self, *, gently: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        end_process(process, gently=gently)


def end_process(process: subprocess.Popen[str], *, gently: bool) -> None:
    """Close a child's pipes and wait for its end; kill it when asked to, or when it lingers."""
    if not gently:
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
