"""What an ingester says of itself and of the shards, over HTTP as Prometheus reads it."""

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import World
from tests.processes import footfall, free_port, wait_until


def gauges(port: int) -> dict[str, dict[str, float]]:
    """Each sample's value, by name and then by shard or partition."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = sample.labels.get("shard") or sample.labels.get("partition") or ""
            found.setdefault(sample.name, {})[label] = sample.value
    return found


def test_the_port_answers_once_it_ingests_and_knows_every_shard(world: World) -> None:
    port = free_port()
    environment = world.environment | {"FOOTFALL_TELEMETRY_PORT": str(port)}
    with footfall("ingest", environment=environment) as process:
        process.wait_for("ingesting")
        process.wait_for("assigned")
        merchants = world.merchants(4)
        world.write(iter([(b"%d" % m, b"{broken") for m in merchants]))
        wait_until(
            lambda: set(gauges(port).get("footfall_shard_applied_until_seconds", {})) == {"0", "1"},
            30,
            "the shards' freshness is not told",
        )
        told = gauges(port)
    assert told["footfall_shard_up"] == {"0": 1, "1": 1}
    assert told["footfall_shard_halted_partitions"] == {"0": 0, "1": 0}
    assert set(told["footfall_ingest_lag_messages"]) == {"0", "1", "2", "3"}
    assert min(told["footfall_shard_database_bytes"].values()) > 1_000_000


def test_a_halted_partition_is_told_whoever_halted_it(world: World) -> None:
    with psycopg.connect(world.shards[1]) as connection:
        connection.execute(
            "INSERT INTO ingest_offset (topic, kafka_partition, topic_id, next_offset, "
            "halted_reason) VALUES (%s, 99, 'another', 0, 'a test')",
            (world.topic,),
        )
    port = free_port()
    words = ("ingest", "--telemetry-port", str(port))
    with footfall(*words, environment=world.environment) as process:
        process.wait_for("ingesting")
        wait_until(
            lambda: gauges(port).get("footfall_shard_halted_partitions", {}) == {"0": 0, "1": 1},
            30,
            "the halted partition is not told",
        )
