"""A primary and its replica on this machine: questions to the replica, then the primary is lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from db.migrate import migrate
from tests.conftest import PARTITIONS, World
from tests.operations.own_servers import Server, folder_of_servers, needs_servers
from tests.processes import footfall
from tests.service import page_view, serving

pytestmark = [pytest.mark.native, needs_servers]


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary with TimescaleDB, and a replica that streams from it."""
    with folder_of_servers() as root:
        primary, replica = Server(root / "a"), Server(root / "b")
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
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (application,)
        ).fetchone()
        return row[0] if row else 0
