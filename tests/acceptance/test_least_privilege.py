"""Ingester, API and verification, each connected as its own role, do all of their work."""

import os
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from db.roles import INGEST, SERVE
from tests.conftest import World
from tests.history import reprocess
from tests.processes import footfall
from tests.service import page_view, serving

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(
        not os.environ.get("FOOTFALL_TEST_SHARDS"),
        reason="the embedded database knows no logins: name a server in FOOTFALL_TEST_SHARDS",
    ),
]


def as_role(world: World, role: str) -> World:
    """The same world, reached as another role."""
    shards = []
    for dsn in world.shards:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(role))
            )
        parts = urlsplit(dsn)
        where = f"{role}:{role}@{parts.hostname}:{parts.port or 5432}"
        shards.append(parts._replace(netloc=where).geturl())
    return replace(world, shards=shards)


def test_each_process_does_its_work_as_its_own_role(world: World, tmp_path: Path) -> None:
    ingest, serve = as_role(world, INGEST), as_role(world, SERVE)
    late = int(time.time() * 1000) - 3 * 86_400_000
    bought = {"event": "purchase", "value": "19.90", "currency": "EUR", "visitor_id": "v"}
    with (
        footfall("ingest", environment=ingest.environment) as process,
        serving(serve, tmp_path) as (service, _),
    ):
        process.wait_for("ingesting")
        merchant = service.merchant()
        service.send(merchant, *(page_view(event_id=f"seen-{n}") for n in range(20)))
        service.send(merchant, *(page_view(event_id=f"late-{n}", timestamp=late) for n in range(5)))
        twice = page_view(**bought, order_id="o-1", event_id="p-1")
        service.send(merchant, twice, twice, page_view(**bought, order_id="o-1", event_id="p-2"))
        service.wait_for_events(merchant, 27)
        service.wait_until_fresh(merchant)
        found = service.ask(merchant, metrics=["events", "orders"], date_range="7d")
        assert found["rows"] == [{"events": 27, "orders": 1}]
        key = service.call(
            "POST",
            f"/v1/merchants/{merchant}/keys",
            key=service.admin,
            json={"scopes": ["stats:read"]},
        )
        assert key.status_code == 201, key.text
        assert not [line for line in process.lines if "permission denied" in line]
    assert reprocess(ingest, "verify", "--days", "5", "--json")["agrees"]
