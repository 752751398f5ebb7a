"""A check of every part, each with what to do where it is ill."""

import asyncio
from dataclasses import dataclass
from typing import Final

import asyncpg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from db.moves import open_moves
from db.pools import READER_SETTINGS, open_pool
from footfall.environment import Environment
from footfall.topic import settings_of, wrong_settings

OLDEST_TIMESCALE = (2, 23)

# One line a rollup: its oldest failure, and the days that it concerns.
_FAILING: Final = """
SELECT rollup, min(failed_at) AS since, min(day) AS first, max(day) + INTERVAL '1 day' AS until,
       count(*) AS days, (array_agg(error ORDER BY failed_at))[1] AS error
  FROM refresh_day WHERE failed_at IS NOT NULL GROUP BY rollup ORDER BY rollup
"""
# Days below the watermark are missing in answers; the others are only slower to answer.
_QUEUED: Final = """
SELECT count(*) FILTER (WHERE day < watermark) AS late,
       count(*) FILTER (WHERE day >= watermark IS NOT FALSE) AS unfilled
  FROM refresh_day JOIN refresh_state USING (rollup)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part's state."""

    part: str
    well: bool
    advice: str


async def examine(environment: Environment) -> list[Finding]:
    """Every part that the environment names."""
    findings = [await asyncio.to_thread(_broker, environment)]
    if not environment.shards:
        findings.append(Finding("shards", well=False, advice="set FOOTFALL_SHARDS"))
    for number, dsn in enumerate(environment.shards):
        findings += await _shard(number, dsn, environment.topic)
    if environment.shards:
        findings += await _moves(environment.shards[0])
    return findings


def _broker(environment: Environment) -> Finding:
    if not environment.bootstrap:
        return Finding("log", well=False, advice="set FOOTFALL_KAFKA_BOOTSTRAP")
    settings = {"bootstrap.servers": environment.bootstrap, **environment.kafka_options}
    admin = AdminClient({**settings, "log_level": 0})
    try:
        topics = admin.list_topics(timeout=5).topics
        if environment.topic not in topics:
            advice = f"no topic {environment.topic}: footfall migrate"
            return Finding("log", well=False, advice=advice)
        settings = settings_of(admin, environment.topic)
    except KafkaException as error:
        return Finding("log", well=False, advice=f"no broker answers: {error}")
    wrong = wrong_settings(settings)
    if wrong:
        told = [
            f"the topic's {name} is {settings[name]}: {why}" for name, (_, why) in wrong.items()
        ]
        advice = f"{'; '.join(told)}. footfall migrate changes it"
        return Finding("log", well=False, advice=advice)
    partitions = len(topics[environment.topic].partitions)
    return Finding("log", well=True, advice=f"{environment.topic}, {partitions} partitions")


async def _moves(catalogue: str) -> list[Finding]:
    """Moves of partitions that have not ended; a catalogue that is ill is told of elsewhere."""
    pool = await open_pool(catalogue, READER_SETTINGS, size=1, command_timeout=10)
    try:
        begun = await open_moves(pool)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return []
    finally:
        pool.terminate()
    return [
        Finding(
            f"partition {each.partition}",
            well=False,
            advice=f"{each.state} from shard {each.source} to {each.target}; if nobody is at it: "
            f"footfall shards move --partition {each.partition} --to {each.target}",
        )
        for each in begun.values()
    ]


async def _shard(number: int, dsn: str, topic: str) -> list[Finding]:
    name = f"shard {number}"
    pool = await open_pool(dsn, READER_SETTINGS, size=1, command_timeout=10)
    try:
        version = await pool.fetchval(
            "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        )
        if version is None:
            return [Finding(name, well=False, advice="no TimescaleDB in it: footfall migrate")]
        found = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
        if found < OLDEST_TIMESCALE:
            return [Finding(name, well=False, advice=f"TimescaleDB {version} is too old: upgrade")]
        halted = await pool.fetch(
            "SELECT kafka_partition, halted_reason FROM ingest_offset "
            "WHERE topic = $1 AND halted_reason IS NOT NULL",
            topic,
        )
        late = await pool.fetchval(
            "SELECT extract(epoch FROM now() - min(applied_until))::int8 FROM ingest_offset "
            "WHERE topic = $1 AND moved_to IS NULL",
            topic,
        )
        failing = await pool.fetch(_FAILING)
        queued = await pool.fetchrow(_QUEUED)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        return [Finding(name, well=False, advice="tables are missing: footfall migrate")]
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        return [Finding(name, well=False, advice=f"does not answer: {error}")]
    finally:
        pool.terminate()
    findings = [Finding(name, well=True, advice=f"TimescaleDB {version}")]
    findings += [
        Finding(f"partition {row['kafka_partition']}", well=False, advice=row["halted_reason"])
        for row in halted
    ]
    findings += [_failing(row) for row in failing]
    if queued is not None and (queued["late"] or queued["unfilled"]):
        waiting = (
            f"{queued['late']} days of late events wait for a refresh; {queued['unfilled']} days "
            "are answered from raw rows until they are filled"
        )
        findings.append(Finding(f"{name} rollups", well=True, advice=waiting))
    if late is not None:
        advice = f"{late} s behind" + ("" if late < 900 else ": is `footfall ingest` running?")
        findings.append(Finding(f"{name} freshness", well=late < 900, advice=advice))
    return findings


def _failing(row: asyncpg.Record) -> Finding:
    """A rollup that cannot take in the late events of some days."""
    first, until = row["first"], row["until"]
    return Finding(
        f"rollup {row['rollup']}",
        well=False,
        advice=f"{row['days']} days from {first:%Y-%m-%d} on cannot be refreshed since "
        f"{row['since']:%Y-%m-%d %H:%M} UTC: {row['error']}. It is retried by itself; once the "
        f"cause is gone: footfall reprocess refresh --from {first:%Y-%m-%d} --to {until:%Y-%m-%d} "
        "(docs/runbooks/FootfallRollupFailing.md)",
    )
