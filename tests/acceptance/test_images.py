"""The images of compose.yaml, with its settings: the whole job, with an ingester that is killed."""

import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from db.migrate import migrate
from footfall.topic import ensure_topic
from tests import containers
from tests.acceptance.test_exactly_once import DIES, send, settle
from tests.conftest import PARTITIONS, World
from tests.history import one, reprocess
from tests.processes import footfall, script
from tests.service import page_view, serving

pytestmark = [
    pytest.mark.containers,
    pytest.mark.skipif(not containers.have_engine(), reason=containers.WHY_NOT),
    pytest.mark.timeout(900),  # the images may have to come first
]


@pytest.fixture(scope="module")
def images() -> Iterator[World]:
    """A broker and two shards, each a server of its own."""
    with ExitStack() as opened:
        bootstrap = opened.enter_context(containers.kafka())
        shards = [opened.enter_context(containers.timescale()) for _ in range(2)]
        topic = f"images.{uuid.uuid4().hex[:8]}"
        ensure_topic(bootstrap, topic, PARTITIONS, {})
        migrate(shards, PARTITIONS)
        yield World(bootstrap, topic, shards)


def test_nothing_is_lost_nor_doubled_and_the_log_agrees(images: World) -> None:
    merchants = images.merchants(8)
    send(images, merchants)
    with script(DIES, "mid_copy", "1", environment=images.environment) as dying:
        assert dying.end(60) == -signal.SIGKILL, "\n".join(dying.lines)
    send(images, merchants, 1_000)
    with footfall("ingest", environment=images.environment) as process:
        process.wait_for("ingesting")
        settle(images, merchants, 5_000)
    assert reprocess(images, "verify", "--days", "3", "--json")["agrees"]


def test_a_shop_is_served(images: World, tmp_path: Path) -> None:
    with (
        footfall("ingest", environment=images.environment) as process,
        serving(images, tmp_path) as (service, _),
    ):
        process.wait_for("ingesting")
        merchant = service.merchant()
        service.send(merchant, *(page_view(event_id=f"seen-{n}") for n in range(20)))
        service.wait_for_events(merchant, 20)
        asked = {"metrics": ["events"], "date_range": "7d"}
        assert service.ask(merchant, **asked)["rows"] == [{"events": 20}]


def test_grafanas_login_may_read_and_nothing_else(images: World) -> None:
    for dsn in images.shards:
        settings = one(dsn, "SELECT rolconfig FROM pg_roles WHERE rolname = 'grafana'")
        assert "default_transaction_read_only=on" in settings
        with psycopg.connect(dsn) as connection:
            connection.execute("SET LOCAL ROLE grafana")
            connection.execute("SELECT count(*) FROM traffic_daily")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT raw FROM rejected_event")
