"""One running service for all tests of what merchants see."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from footfall.topic import ensure_topic
from tests.conftest import PARTITIONS, World
from tests.processes import footfall
from tests.service import Service, serving


@pytest.fixture(scope="session")
def service(
    bootstrap: str, shards: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """API and ingester over a topic of their own."""
    topic = f"service.{uuid.uuid4().hex[:8]}"
    ensure_topic(bootstrap, topic, PARTITIONS, {})
    world = World(bootstrap, topic, shards)
    folder: Path = tmp_path_factory.mktemp("service")
    with footfall("ingest", environment=world.environment) as ingester:
        ingester.wait_for("ingesting")
        with serving(world, folder) as (running, _):
            yield running


@pytest.fixture
def shop(service: Service) -> int:
    """A shop of its own for a test."""
    return service.merchant()
