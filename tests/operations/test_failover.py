"""A primary and its replica on this machine: questions to the replica, then the primary is lost."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from db.migrate import migrate
from tests.conftest import PARTITIONS, World
from tests.processes import footfall, wait_until
from tests.service import free_port, page_view, serving

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
wal_level = replica
hot_standby_feedback = on
"""


def have_servers() -> bool:
    """Whether PostgreSQL's programs and TimescaleDB's library are here."""
    if any(shutil.which(each) is None for each in ("initdb", "postgres", "pg_basebackup")):
        return False
    where = subprocess.run(
        ["pg_config", "--pkglibdir"], capture_output=True, text=True, check=False
    )
    return (Path(where.stdout.strip()) / "timescaledb.so").exists()


pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(
        not have_servers(),
        reason="initdb, postgres, pg_basebackup and TimescaleDB's library are not on the PATH",
    ),
]


class Server:
    """A PostgreSQL server of our own, run by nobody: it refuses to be run by root."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = nobody.pw_uid if nobody else None
        self._group = nobody.pw_gid if nobody else None
        self._child: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """An empty cluster."""
        self.run("initdb", "--pgdata", str(self.folder), "--username=footfall", "--auth=trust")
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)

    def copy(self, other: "Server") -> None:
        """A replica of another."""
        self.run(
            *("pg_basebackup", "--host=127.0.0.1", f"--port={other.port}", "--username=footfall"),
            *("--pgdata", str(self.folder), "--wal-method=stream", "--write-recovery-conf"),
            "--checkpoint=fast",
        )

    def run(self, *words: str) -> None:
        """A program, to its end."""
        subprocess.run(
            words,
            check=True,
            capture_output=True,
            cwd=self.folder.parent,
            user=self._user,
            group=self._group,
        )

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
            psycopg.connect(
                f"host=127.0.0.1 port={self.port} user=footfall dbname=postgres"
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, as a lost machine would."""
        if self._child is not None:
            self._child.send_signal(how)
            self._child.wait(30)
            self._child = None


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """A primary with TimescaleDB, and a replica that streams from it."""
    root = tmp_path_factory.mktemp("servers")
    primary, replica = Server(root / "a"), Server(root / "b")
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(root, nobody.pw_uid, nobody.pw_gid)
        for parent in root.parents[:2]:
            parent.chmod(0o755)
    try:
        primary.make()
        primary.start()
        replica.copy(primary)
        replica.start()
        yield primary, replica
    finally:
        primary.stop()
        replica.stop()


def test_a_lost_primary_costs_nothing_and_replicas_answer(
    bootstrap: str, world: World, pair: tuple[Server, Server], tmp_path: Path
) -> None:
    primary, replica = pair
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
    shard = f"postgresql://footfall@{hosts}/postgres?target_session_attrs=primary"
    reader = f"postgresql://footfall@{hosts}/postgres?target_session_attrs=prefer-standby"
    migrate([shard], PARTITIONS)
    own = World(bootstrap, world.topic, [shard])
    with footfall("ingest", environment=own.environment) as ingester:
        ingester.wait_for("ingesting")
        reading = Reading(bootstrap, world.topic, [shard], reader)
        with serving(reading, tmp_path) as (service, _):
            merchant = service.merchant()
            service.send(merchant, *(page_view(event_id=f"before-{n}") for n in range(20)))
            service.wait_for_events(merchant, 20)
            service.wait_until_fresh(merchant)
            assert sessions(replica, "footfall-api") > 0
            assert sessions(primary, "footfall-api") == 0
            primary.stop()
            service.send(merchant, *(page_view(event_id=f"during-{n}") for n in range(20)))
            replica.run(*promote(replica))
            service.wait_for_events(merchant, 40, 90)
            service.wait_until_fresh(merchant)
            assert service.ask(merchant, metrics=["events"], date_range="7d")["rows"] == [
                {"events": 40}
            ]


@dataclass(frozen=True)
class Reading(World):
    """A world whose API asks a replica."""

    reader: str

    @property
    def environment(self) -> dict[str, str]:
        own: dict[str, str] = World.environment.__get__(self)
        return own | {"FOOTFALL_READ_SHARDS": self.reader}


def promote(server: Server) -> list[str]:
    """The command that makes a replica the primary."""
    return ["pg_ctl", "promote", "--pgdata", str(server.folder)]


def sessions(server: Server, application: str) -> int:
    """How many sessions of an application a server has."""
    dsn = f"host=127.0.0.1 port={server.port} user=footfall dbname=postgres"
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (application,)
        ).fetchone()
        return row[0] if row else 0
