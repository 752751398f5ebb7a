"""A check of every part, each with what to do where it fails."""

import asyncio
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from api.left_spools import left_bytes, spools_below
from api.spool import segments_in
from db.errors import TROUBLES
from db.moves import open_moves
from db.pools import READER_SETTINGS, open_pool
from db.shard_map import CHANGED, shard_map
from footfall.doctor_shard import examine_shard
from footfall.environment import Environment
from footfall.findings import Finding
from footfall.topic import settings_of, wrong_settings


async def examine(environment: Environment) -> list[Finding]:
    """Every part that the environment names."""
    log, partitions = await asyncio.to_thread(_broker, environment)
    findings = [log, *_spools(environment.spool_root)]
    if not environment.shards:
        return [*findings, Finding("shards", ok=False, cause="FOOTFALL_SHARDS is not set")]
    for number, dsn in enumerate(environment.shards):
        findings += await examine_shard(number, dsn, environment.topic)
    return [*findings, *await _catalogue(environment, partitions)]


def _broker(environment: Environment) -> tuple[Finding, int | None]:
    """The topic, and how many partitions it has where that is known."""
    if not environment.bootstrap:
        return Finding("log", ok=False, cause="FOOTFALL_KAFKA_BOOTSTRAP is not set"), None
    settings = {"bootstrap.servers": environment.bootstrap, **environment.kafka_options}
    admin = AdminClient({**settings, "log_level": 0})
    try:
        topics = admin.list_topics(timeout=5).topics
        if environment.topic not in topics:
            cause = f"there is no topic {environment.topic}"
            return Finding("log", ok=False, cause=cause, command="footfall migrate"), None
        found = settings_of(admin, environment.topic)
    except KafkaException as error:
        return Finding("log", ok=False, cause=f"no broker answers: {error}"), None
    partitions = len(topics[environment.topic].partitions)
    wrong = wrong_settings(found)
    if wrong:
        told = [f"the topic's {name} is {found[name]}: {why}" for name, (_, why) in wrong.items()]
        cause = "; ".join(told)
        return Finding("log", ok=False, cause=cause, command="footfall migrate"), partitions
    return Finding(
        "log", ok=True, cause=f"{environment.topic}, {partitions} partitions"
    ), partitions


def _spools(root: Path) -> list[Finding]:
    """Events that the API accepted on this machine and that are not in the log."""
    found = []
    try:
        spools = spools_below(root)
        waiting = sum(each.stat().st_size for one in spools for each in segments_in(one))
        left = left_bytes(root)
        dead = [one / "dead-letters.jsonl" for one in spools]
        dead = [each for each in dead if each.exists()]
    except OSError as error:
        cause = f"cannot be read: {error}"
        return [Finding("spool", ok=False, cause=cause, command="run this as the API's user")]
    if left:
        cause = f"{left} bytes of accepted events below {root} are in spools that no process holds"
        found.append(Finding("spool", ok=False, cause=cause, command="footfall serve"))
    elif waiting:
        cause = f"{waiting} bytes of accepted events below {root} wait for the log"
        found.append(Finding("spool", ok=False, cause=cause, command="bring the broker back"))
    found += [
        Finding(
            "dead letters",
            ok=False,
            cause=f"{each} holds accepted events that the log refused",
            command=f"footfall load {each}, then remove it",
        )
        for each in dead
    ]
    return found


async def _catalogue(environment: Environment, partitions: int | None) -> list[Finding]:
    """The shard map and the moves; a catalogue that fails is told of elsewhere."""
    try:
        pool = await open_pool(environment.shards[0], READER_SETTINGS, size=1, command_timeout=10)
    except ValueError:
        return []
    try:
        mapped, begun = await shard_map(pool), await open_moves(pool)
    except (*TROUBLES, ValueError):
        return []
    finally:
        pool.terminate()
    found = [
        Finding(
            f"partition {each.partition}",
            ok=False,
            cause=f"its move is {each.state}, from shard {each.source} to {each.target}; if nobody "
            "is at it, go on with it",
            command=f"footfall shards move --partition {each.partition} --to {each.target}",
        )
        for each in begun.values()
    ]
    if partitions is not None and len(mapped) != partitions:
        cause = f"it has {len(mapped)} partitions and the topic {partitions}: {CHANGED}"
        command = "" if mapped else "footfall migrate"
        found.append(Finding("shard map", ok=False, cause=cause, command=command))
    unknown = sorted({shard for shard in mapped.values() if shard >= len(environment.shards)})
    if unknown:
        cause = f"it names shards {unknown}, FOOTFALL_SHARDS {len(environment.shards)} databases"
        command = "append the missing DSNs to FOOTFALL_SHARDS, in their order"
        found.append(Finding("shard map", ok=False, cause=cause, command=command))
    return found
