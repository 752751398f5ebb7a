"""`footfall doctor` sees each part that fails, says why, and names the command that helps."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)

from api.spool import Spool
from footfall.doctor import examine
from footfall.environment import Environment
from footfall.findings import Finding
from tests import warm
from tests.acceptance.test_supervised import page_views
from tests.conftest import PARTITIONS, World
from tests.history import ingest, own_world
from tests.processes import free_port

FAILED_JOB = """
INSERT INTO _timescaledb_internal.bgw_job_stat
SELECT (jsonb_populate_record(NULL::_timescaledb_internal.bgw_job_stat, jsonb_build_object(
       'job_id', id, 'last_start', now(), 'last_finish', now(), 'next_start', now(),
       'last_successful_finish', '-infinity', 'last_run_success', false, 'total_runs', 1,
       'total_duration', '1s', 'total_duration_failures', '1s', 'total_successes', 0,
       'total_failures', 1, 'total_crashes', 0, 'consecutive_failures', 1,
       'consecutive_crashes', 0, 'flags', 0))).*
  FROM _timescaledb_config.bgw_job WHERE proc_name = 'policy_retention' ORDER BY id LIMIT 1
    ON CONFLICT (job_id) DO UPDATE SET last_run_success = false, last_finish = now()
"""
NOT_REFRESHED = """
UPDATE refresh_state SET refreshed_at = now() - INTERVAL '2 hours';
UPDATE ingest_batch SET committed_at = now() - INTERVAL '1 hour'
"""
A_MOVE = """
INSERT INTO shard_move (kafka_partition, from_shard, to_shard, state) VALUES (0, 0, 1, 'copy')
"""
A_REJECT = """
INSERT INTO rejected_event (topic_id, kafka_partition, log_offset, logged_at, reason, detail)
VALUES ('id', 0, 0, now(), '{}', 'why')
"""
# What is done to a database, the part that must fail then, and words of its cause and command.
BROKEN: dict[str, tuple[str, str, str, str]] = {
    "a job fails": (FAILED_JOB, "shard 0 job", "policy_retention", "run_job"),
    "no rollup is refreshed": (
        NOT_REFRESHED,
        "shard 0 refresh",
        "in no rollup yet",
        "footfall ingest",
    ),
    "nothing is stored any more": (
        "UPDATE ingest_offset SET applied_until = now() - INTERVAL '1 hour'",
        "shard 0 freshness",
        "3600 s behind",
        "footfall ingest",
    ),
    "a partition is halted": (
        "UPDATE ingest_offset SET halted_reason = 'was truncated' WHERE kafka_partition = 1",
        "partition 1",
        "was truncated",
        "FootfallPartitionHalted",
    ),
    "the schema is older": (
        "UPDATE alembic_version_shard SET version_num = '0008'",
        "shard 0",
        "shard schema is at 0008",
        "footfall migrate",
    ),
    "the schema is newer": (
        "UPDATE alembic_version_catalogue SET version_num = '9999'",
        "shard 0",
        "catalogue schema is at 9999",
        "install the version",
    ),
    "a table is missing": (
        "ALTER TABLE refresh_day RENAME TO lost",
        "shard 0",
        "refresh_day",
        "footfall migrate",
    ),
    "the transform has a gap": (
        A_REJECT.format("transform_gap"),
        "shard 0 transform_gap",
        "refused by mistake",
        "footfall reprocess run --from",
    ),
    "a producer has another partitioner": (
        A_REJECT.format("wrong_partition"),
        "shard 0 wrong_partition",
        "murmur2_random",
        "FootfallRejectRate",
    ),
    "the map is empty": (
        "DELETE FROM shard_map",
        "shard map",
        f"0 partitions and the topic {PARTITIONS}",
        "footfall migrate",
    ),
    "the map names another shard": (
        "UPDATE shard_map SET shard = 3 WHERE kafka_partition = 0",
        "shard map",
        "[3]",
        "FOOTFALL_SHARDS",
    ),
    "a move was left": (
        A_MOVE,
        "partition 0",
        "from shard 0 to 1",
        "footfall shards move --partition 0 --to 1",
    ),
}


@pytest.fixture
def alone(bootstrap: str) -> Iterator[World]:
    """A topic and a database of some events, which nothing else uses."""
    with own_world(bootstrap, f"examined.{uuid.uuid4().hex[:8]}") as world:
        (merchant,) = world.merchants(1)
        ingest(world, world.write(iter(page_views(merchant))))
        yield world


def findings(world: World, folder: Path, **more: str) -> list[Finding]:
    own = {**world.environment, "FOOTFALL_DATA_DIR": str(folder), **more}
    return asyncio.run(examine(Environment.read(own)))


def failing(found: list[Finding]) -> list[Finding]:
    return [each for each in found if not each.ok]


@pytest.mark.parametrize("kind", BROKEN)
def test_what_fails_in_a_database_is_seen(alone: World, tmp_path: Path, kind: str) -> None:
    statement, part, cause, command = BROKEN[kind]
    assert failing(findings(alone, tmp_path)) == []
    with psycopg.connect(alone.shards[0], autocommit=True) as connection:
        for each in statement.split(";\n"):
            connection.execute(each)
    (found,) = failing(findings(alone, tmp_path))
    assert found.part.startswith(part)
    assert cause in found.cause
    assert command in found.command


@pytest.mark.parametrize(
    ("dsn", "cause"),
    [
        ("postgresql://u@127.0.0.1:notaport/db", "cannot be read"),
        ("host=127.0.0.1", "cannot be read"),
        ("postgresql://u@127.0.0.1:{free}/db", "does not answer"),
        ("postgresql://u@nowhere.invalid/db", "does not answer"),
    ],
)
def test_a_shard_that_cannot_be_asked_is_seen(
    world: World, tmp_path: Path, dsn: str, cause: str
) -> None:
    broken = replace(world, shards=[dsn.format(free=free_port()).replace(" ", "")])
    (found,) = [each for each in failing(findings(broken, tmp_path)) if each.part == "shard 0"]
    assert cause in found.cause


def test_a_topic_that_is_not_as_it_must_be_is_seen(alone: World, tmp_path: Path) -> None:
    client = AdminClient({"bootstrap.servers": alone.bootstrap})
    changes = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in {
            "message.timestamp.type": "CreateTime",
            "cleanup.policy": "compact",
        }.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, alone.topic, incremental_configs=changes)
    for done in client.incremental_alter_configs([resource]).values():
        done.result()
    (found,) = failing(findings(alone, tmp_path))
    assert (found.part, found.command) == ("log", "footfall migrate")
    assert "CreateTime" in found.cause
    assert "compact" in found.cause
    for grown in client.create_partitions([NewPartitions(alone.topic, PARTITIONS + 1)]).values():
        grown.result()
    time.sleep(1)
    assert {each.part for each in failing(findings(alone, tmp_path))} == {"log", "shard map"}
    (absent,) = failing(findings(replace(alone, topic="none"), tmp_path))
    assert (absent.cause, absent.command) == ("there is no topic none", "footfall migrate")


async def test_events_that_wait_on_this_machine_are_seen(world: World, tmp_path: Path) -> None:
    spool = Spool.take(tmp_path / "spool" / "8080")
    await spool.append([(b"1", b"{}")])
    spool.bury([b"{}"])

    async def seen() -> dict[str, Finding]:
        own = {**world.environment, "FOOTFALL_DATA_DIR": str(tmp_path)}
        found = await examine(Environment.read(own))
        return {each.part: each for each in found if not each.ok}

    assert "wait for the log" in (await seen())["spool"].cause
    spool.close()
    held = await seen()
    assert "no process holds" in held["spool"].cause
    assert held["spool"].command == "footfall serve"
    assert "footfall load" in held["dead letters"].command


def test_it_answers_people_and_scripts(alone: World, tmp_path: Path) -> None:
    own = {**os.environ, **alone.environment, "FOOTFALL_DATA_DIR": str(tmp_path)}
    done = warm.run(["doctor", "--json"], own, 60)
    assert done.returncode == 0
    assert all(each["ok"] for each in json.loads(done.stdout))
    with psycopg.connect(alone.shards[0]) as connection:
        connection.execute("UPDATE ingest_offset SET halted_reason = 'a [reason]'")
    done = warm.run(["doctor"], {**own, "COLUMNS": "160"}, 60)
    assert done.returncode == 1
    assert "failing" in done.stdout
    assert "a [reason]" in done.stdout
