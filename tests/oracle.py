"""What must be in the tables, recomputed from the log by itself: row by row, in plain Python.

It shares with the product only the check of one event; everything else is written again, slowly.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from confluent_kafka import Consumer, Message, TopicPartition

from events.agents import parse
from events.check import Event, check
from events.limits import Limits
from events.privacy import redact

NEVER_MS = -(1 << 60)
WINDOW_MS = 900_000
Place = tuple[int, int]  # partition, offset


@dataclass(slots=True)
class Truth:
    """What the log says."""

    rows: dict[Place, Event] = field(default_factory=dict)
    rejects: dict[Place, str] = field(default_factory=dict)
    raws: dict[Place, bytes | None] = field(default_factory=dict)
    duplicates: set[Place] = field(default_factory=set)
    counted_orders: set[Place] = field(default_factory=set)
    ends: dict[int, int] = field(default_factory=dict)

    def by_hour(self) -> Counter[tuple[int, int, str]]:
        """Events by merchant, hour since the epoch and name; bots included."""
        return Counter(
            (event.merchant_id, int(event.timestamp or 0) // 3_600_000, str(event.event))
            for event in self.rows.values()
            if event.merchant_id is not None
        )


def read_log(bootstrap: str, topic: str) -> list[tuple[int, int, int, bytes | None]]:
    """Every message: partition, offset, log time in ms, value; in the order of each partition."""
    return [
        (partition, offset, message.timestamp()[1], message.value())
        for partition, offset, message in messages_of(bootstrap, topic)
    ]


def messages_of(bootstrap: str, topic: str) -> list[tuple[int, int, Message]]:
    """Every message that the topic holds now, with its partition and offset, in their order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    found = []
    try:
        left = {}
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
            place = TopicPartition(topic, partition)
            low, high = consumer.get_watermark_offsets(place, timeout=30)
            if low < high:
                left[partition] = (low, high)
        consumer.assign([TopicPartition(topic, each, low) for each, (low, _) in left.items()])
        while left:
            for message in consumer.consume(10_000, 0.05):
                assert message.error() is None, message.error()
                partition, offset = message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if partition not in left or offset >= left[partition][1]:
                    continue  # it came after we asked how far the log goes
                found.append((partition, offset, message))
                if offset + 1 == left[partition][1]:
                    del left[partition]
    finally:
        consumer.close()
    return sorted(found, key=lambda each: each[:2])


def truth(bootstrap: str, topic: str, limits: Limits | None = None) -> Truth:
    """Recompute everything from the log."""
    found = Truth()
    seen: dict[tuple[Any, ...], int] = {}  # an event and whether by a public key -> logged last
    orders: dict[tuple[int | None, str], tuple[int, Place]] = {}
    for partition, offset, logged_ms, value in read_log(bootstrap, topic):
        place = (partition, offset)
        found.ends[partition] = offset + 1
        verdict = check(value, now_ms=logged_ms, limits=limits or Limits())
        if not isinstance(verdict, Event):
            found.rejects[place] = str(verdict.reason)
            found.raws[place] = value
            continue
        if verdict.timestamp is None:
            verdict.timestamp = logged_ms
        if verdict.event_id is not None:
            key = (verdict.merchant_id, verdict.timestamp, str(verdict.event_id))
            public = verdict.sent_by == "public_key"
            repeated = (False, True) if public else (False,)  # a server's repeats only a server's
            if any(logged_ms - seen.get((key, by), NEVER_MS) <= WINDOW_MS for by in repeated):
                found.duplicates.add(place)
                continue
            seen[key, public] = logged_ms
        found.rows[place] = verdict
        if verdict.event == "purchase":
            order = (verdict.merchant_id, str(verdict.order_id))
            claim = (_precedence(verdict), place)
            if order not in orders or claim[0] < orders[order][0]:
                orders[order] = claim
    found.counted_orders = {place for _, place in orders.values()}
    return found


def _precedence(event: Event) -> int:
    """A server's purchase comes before a public key's, a person's before a bot's."""
    public = event.sent_by == "public_key"
    agent = str(event.user_agent or "")
    bot = parse(agent).device == "bot" if agent.strip() else public and event.url is not None
    return 2 * int(bot) + int(public)


def differences(wanted: Truth, dsns: list[str], topic: str, merchants: list[int]) -> list[str]:
    """Everything in which the tables differ from the log; an empty list when nothing does."""
    wrong: list[str] = []
    rows: dict[Place, tuple[Any, ...]] = {}
    rejects: dict[Place, tuple[str, bytes | None]] = {}
    duplicates: set[Place] = set()
    hourly: Counter[tuple[int, int, str]] = Counter()
    daily: Counter[tuple[int, int, str]] = Counter()
    ends: dict[int, int] = {}
    ledger: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for dsn in dsns:
        with psycopg.connect(dsn) as connection:
            ask = _asker(connection, merchants, topic)
            for p, o, merchant, ts, counted in ask(_ROWS):
                if (p, o) in rows:
                    wrong.append(f"{p}/{o} is stored twice")
                rows[p, o] = (merchant, ts, counted)
            for p, o, reason, kept in ask(_REJECTS):
                if (p, o) in rejects:
                    wrong.append(f"{p}/{o} is rejected twice")
                rejects[p, o] = (reason, None if kept is None else bytes(kept))
            duplicates |= {(p, o) for p, o in ask(_DUPLICATES)}
            hourly += Counter({(m, h, e): n for m, h, e, n in ask(_HOURLY)})
            daily += Counter({(m, d, e): n for m, d, e, n in ask(_DAILY)})
            ends |= dict(ask(_OFFSETS))
            for p, *line in ask(_LEDGER):
                ledger[p].append(tuple(line))
    wanted_rows = {
        place: (
            event.merchant_id,
            event.timestamp,
            event.event != "purchase" or place in wanted.counted_orders,
        )
        for place, event in wanted.rows.items()
    }
    wrong += _unlike("rows", wanted_rows, rows)
    wrong += _unlike(
        "rejects", {p: (why, redact(wanted.raws[p])) for p, why in wanted.rejects.items()}, rejects
    )
    wrong += _unlike("duplicates", dict.fromkeys(wanted.duplicates), dict.fromkeys(duplicates))
    wrong += _unlike("next offsets", wanted.ends, {p: e for p, e in ends.items() if e})
    by_hour = wanted.by_hour()
    wrong += _unlike("hourly rollup", dict(by_hour), dict(hourly))
    by_day: Counter[tuple[int, int, str]] = Counter()
    for (merchant, hour, name), count in by_hour.items():
        by_day[merchant, hour // 24, name] += count
    wrong += _unlike("daily rollup", dict(by_day), dict(daily))
    for partition, lines in ledger.items():
        wrong += _gaps(partition, sorted(lines))
    return wrong


def _gaps(partition: int, lines: list[tuple[int, ...]]) -> list[str]:
    """The ledger's ranges must touch, and account for every message."""
    wrong = []
    at = 0
    for start, end, messages, stored, rejected, repeated in lines:
        if start != at:
            wrong.append(f"ledger of {partition}: {start} follows {at}")
        if messages != stored + rejected + repeated:
            wrong.append(f"ledger of {partition}: {start}..{end} does not add up")
        at = end
    return wrong


def _unlike(what: str, wanted: dict[Any, Any], found: dict[Any, Any]) -> list[str]:
    keys = [
        k for k in wanted.keys() | found.keys() if wanted.get(k, "absent") != found.get(k, "absent")
    ]
    return [
        f"{what}: {key}: wanted {wanted.get(key, 'absent')}, found {found.get(key, 'absent')}"
        for key in sorted(keys, key=str)[:10]
    ] + ([f"{what}: {len(keys)} differ"] if len(keys) > 10 else [])


def _asker(connection: psycopg.Connection[Any], merchants: list[int], topic: str) -> Any:
    def ask(question: str) -> list[Any]:
        given = {"merchants": merchants, "topic": topic}
        return connection.execute(question, given).fetchall()

    return ask


_TOPIC_ID = "(SELECT topic_id FROM ingest_offset WHERE topic = %(topic)s LIMIT 1)"
_ROWS = """
SELECT kafka_partition, log_offset, merchant_id, round(extract(epoch FROM ts) * 1000)::int8, counted
  FROM events WHERE merchant_id = ANY (%(merchants)s)
"""
_REJECTS = f"""
SELECT kafka_partition, log_offset, reason, raw FROM rejected_event WHERE topic_id = {_TOPIC_ID}
"""
_DUPLICATES = """
SELECT kafka_partition, log_offset FROM duplicate_event WHERE merchant_id = ANY (%(merchants)s)
"""
_OFFSETS = "SELECT kafka_partition, next_offset FROM ingest_offset WHERE topic = %(topic)s"
_LEDGER = f"""
SELECT kafka_partition, start_offset, end_offset, messages, event_rows, rejects, duplicates
  FROM ingest_batch WHERE topic_id = {_TOPIC_ID}
"""
# device_* are the rollups that keep bots
_HOURLY = """
SELECT merchant_id, extract(epoch FROM bucket)::int8 / 3600, event, sum(events)::int8
  FROM device_hourly WHERE merchant_id = ANY (%(merchants)s) GROUP BY 1, 2, 3
"""
_DAILY = """
SELECT merchant_id, extract(epoch FROM bucket)::int8 / 86400, event, sum(events)::int8
  FROM device_daily WHERE merchant_id = ANY (%(merchants)s) GROUP BY 1, 2, 3
"""


def describe(wrong: list[str]) -> str:
    """For an assertion's message."""
    return json.dumps(wrong[:40], indent=1, default=str)
