"""A shard is lost and put back to an earlier moment, as docs/operations.md says: the log has the
rest, and nothing is lost or doubled."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from db.migrate import migrate
from footfall.simulate import DAY_MS, Shops
from footfall.topic import ensure_topic
from tests import oracle
from tests.conftest import PARTITIONS, World
from tests.history import applied, ingest, one, refreshed, reprocess
from tests.operations.own_servers import Server, folder_of_servers, needs_servers
from tests.processes import footfall, wait_until

pytestmark = [pytest.mark.native, needs_servers, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Lost:
    """A server that archives its WAL, and where it is to be put back."""

    root: Path
    server: Server
    back: Server  # at the same address

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    def back_up(self) -> None:
        """A base backup, while it works."""
        self.server.run(
            *("pg_basebackup", "--host=127.0.0.1", f"--port={self.server.port}"),
            *("--username=footfall", f"--pgdata={self.root / 'backup'}", "--wal-method=stream"),
            *("--checkpoint=fast", "--no-sync"),
        )

    def archive_all(self) -> None:
        """Until the WAL that was written by now is in the archive."""
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        wait_until((self.archive / row[0]).exists, 60, f"{row[0]} is not archived")

    def put_back(self, moment: datetime) -> None:
        """The backup, and the archive up to a moment."""
        self.back.run("cp", "-a", str(self.root / "backup"), str(self.back.folder))
        with (self.back.folder / "postgresql.auto.conf").open("a") as file:
            file.write(
                f"restore_command = 'cp {self.archive}/%f %p'\n"
                f"recovery_target_time = '{moment.isoformat()}'\n"
                "recovery_target_action = 'promote'\n"
            )
        self.back.run("touch", str(self.back.folder / "recovery.signal"))
        self.back.start()
        wait_until(
            lambda: not one(self.back.dsn, "SELECT pg_is_in_recovery()"), 60, "it is not promoted"
        )


@pytest.fixture
def lost() -> Iterator[Lost]:
    """A running server."""
    with folder_of_servers() as root:
        server = Server(root / "a")
        found = Lost(root, server, Server(root / "b", server.port))
        try:
            server.run("mkdir", str(found.archive))
            # A file appears once it is whole: who restores must not find a part of one.
            put = f"cp %p {found.archive}/part && mv {found.archive}/part {found.archive}/%f"
            server.make(f"archive_mode = on\narchive_command = '{put}'\n")
            server.start()
            yield found
        finally:
            found.server.stop()
            found.back.stop()


@pytest.mark.parametrize("ingester", ["goes on", "is started anew"])
def test_what_came_after_the_moment_is_read_again(
    bootstrap: str, lost: Lost, ingester: str
) -> None:
    topic = f"restored.{uuid.uuid4().hex[:8]}"
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    migrate([lost.server.dsn], PARTITIONS)
    world = World(bootstrap, topic, [lost.server.dsn])
    merchants = world.merchants(4)
    shops = Shops(merchants, 8)

    def send(count: int) -> int:
        now = int(time.time() * 1000)
        return world.write(iter(shops.messages(count, now - 2 * DAY_MS, now)))

    def take_in() -> None:
        if ingester == "is started anew":
            ingest(world, sent)
        wait_until(lambda: applied(world) >= sent, 90, f"not all of {sent} is applied")
        wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")

    with ExitStack() as running:
        if ingester == "goes on":
            running.enter_context(footfall("ingest", environment=world.environment))
        sent = send(3_000)
        take_in()
        lost.back_up()
        sent += send(2_000)
        take_in()
        kept, moment = sent, one(lost.server.dsn, "SELECT clock_timestamp()")
        sent += send(2_500)
        take_in()
        lost.archive_all()
        lost.server.stop()
        lost.put_back(moment)
        if ingester == "is started anew":
            assert applied(world) == kept
        sent += send(500)
        take_in()
    assert applied(world) == sent
    wrong = oracle.differences(oracle.truth(bootstrap, topic), world.shards, topic, merchants)
    assert not wrong, oracle.describe(wrong)
    assert reprocess(world, "verify", "--days", "3", "--json")["agrees"]
