"""What verifications saw, kept where an alert can ask for it after the command has ended."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

_NOTE: Final = """
INSERT INTO verification (verification_id, topic, window_start, window_end, merchant_id,
       kafka_partition, slices, messages, differences, repaired)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
# A difference stands until later looks at all that was looked at then, at all partitions at a time
# or at each of them.
_STANDING: Final = """
SELECT coalesce(sum(differences), 0)::int8 FROM verification AS look
 WHERE topic = $1 AND differences > 0
   AND NOT EXISTS (SELECT FROM verification AS later
                    WHERE later.topic = look.topic AND later.verified_at > look.verified_at
                      AND later.window_start <= look.window_start
                      AND later.window_end >= look.window_end
                      AND (later.merchant_id IS NULL OR later.merchant_id = look.merchant_id)
                      AND (later.kafka_partition IS NULL
                           OR later.kafka_partition = look.kafka_partition))
   AND NOT (look.kafka_partition IS NULL
            AND NOT EXISTS (
                SELECT FROM ingest_offset AS held
                 WHERE held.topic = $1 AND held.moved_to IS NULL
                   AND NOT EXISTS (
                       SELECT FROM verification AS later
                        WHERE later.topic = look.topic AND later.verified_at > look.verified_at
                          AND later.window_start <= look.window_start
                          AND later.window_end >= look.window_end
                          AND (later.merchant_id IS NULL OR later.merchant_id = look.merchant_id)
                          AND (later.kafka_partition IS NULL
                               OR later.kafka_partition = held.kafka_partition))))
"""
# A partition that was never looked at counts from its first batch.
_UNTIL: Final = """
SELECT min(coalesce(
         (SELECT max(least(window_end, verified_at)) FROM verification AS look
           WHERE look.topic = held.topic AND look.merchant_id IS NULL
             AND (look.kafka_partition IS NULL OR look.kafka_partition = held.kafka_partition)),
         (SELECT committed_at FROM ingest_batch AS batch
           WHERE batch.kafka_partition = held.kafka_partition AND batch.topic_id = held.topic_id
           ORDER BY start_offset LIMIT 1)))
  FROM ingest_offset AS held WHERE topic = $1 AND moved_to IS NULL
"""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a window of a shard: of one merchant or partition, or of all."""

    topic: str
    start: datetime
    end: datetime
    merchant_id: int | None
    partition: int | None
    slices: int
    messages: int
    differences: int
    repaired: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a shard: differences that nobody has mended, and up to which event time all
    its partitions were verified (None where there is nothing yet)."""

    differences: int
    until: datetime | None


async def note(pool: asyncpg.Pool, look: Look) -> None:
    """Keep what was seen."""
    await pool.execute(
        _NOTE,
        uuid.uuid4(),
        look.topic,
        look.start,
        look.end,
        look.merchant_id,
        look.partition,
        look.slices,
        look.messages,
        look.differences,
        look.repaired,
    )


async def standing(pool: asyncpg.Pool, topic: str) -> Standing:
    """What stands of a topic in this shard."""
    differences = await pool.fetchval(_STANDING, topic, timeout=10)
    return Standing(differences, await pool.fetchval(_UNTIL, topic, timeout=10))
