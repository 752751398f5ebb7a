"""PostgreSQL servers of a test's own, with TimescaleDB, for what is done to whole servers."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.processes import free_port, wait_until

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
wal_level = replica
hot_standby_feedback = on
fsync = off
"""  # servers are lost here, machines are not: nothing needs to reach the disk


def _have_servers() -> bool:
    """Whether PostgreSQL's programs and TimescaleDB's library are here."""
    if any(shutil.which(each) is None for each in ("initdb", "postgres", "pg_basebackup")):
        return False
    where = subprocess.run(
        ["pg_config", "--pkglibdir"], capture_output=True, text=True, check=False
    )
    return (Path(where.stdout.strip()) / "timescaledb.so").exists()


needs_servers = pytest.mark.skipif(
    not _have_servers(),
    reason="initdb, postgres, pg_basebackup and TimescaleDB's library are not on the PATH",
)


class Server:
    """A PostgreSQL server of our own, run by nobody: it refuses to be run by root."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = nobody.pw_uid if nobody else None
        self._group = nobody.pw_gid if nobody else None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """Of its one database."""
        return f"postgresql://footfall@127.0.0.1:{self.port}/postgres"

    def make(self, settings: str = "") -> None:
        """An empty cluster."""
        self.run("initdb", "--pgdata", str(self.folder), "--username=footfall", "--auth=trust")
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(SETTINGS + settings)

    def copy(self, other: "Server") -> None:
        """A replica of another."""
        self.run(
            *("pg_basebackup", "--host=127.0.0.1", f"--port={other.port}", "--username=footfall"),
            *("--pgdata", str(self.folder), "--wal-method=stream", "--write-recovery-conf"),
            *("--checkpoint=fast", "--no-sync"),
        )

    def run(self, *words: str) -> None:
        """A program, to its end."""
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder.parent,
            user=self._user,
            group=self._group,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Until it answers."""
        log = (self.folder.parent / f"{self.folder.name}.log").open("wb")
        words = ["postgres", "-D", str(self.folder), "-p", str(self.port)]
        self._child = subprocess.Popen(
            words,
            stdout=log,
            stderr=log,
            cwd=self.folder.parent,
            user=self._user,
            group=self._group,
        )
        log.close()
        wait_until(self.answers_or_ended, 60, f"the server in {self.folder} does not answer")
        if self._child.poll() is not None:
            said = Path(log.name).read_text()
            assert "could not load library" in said, said
            pytest.skip(f"TimescaleDB's library does not load into this PostgreSQL: {said[-300:]}")

    def answers_or_ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        if self._child is None or self._child.poll() is not None:
            return True
        try:
            psycopg.connect(self.dsn).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, as a lost machine would."""
        if self._child is not None:
            self._child.send_signal(how)
            self._child.wait(30)
            self._child = None


@contextmanager
def folder_of_servers() -> Iterator[Path]:
    """A folder that the user who runs the servers may write into.

    It is not below pytest's: each session of pytest closes that to everybody but its own user.
    """
    with tempfile.TemporaryDirectory(prefix="footfall-servers-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        yield folder
