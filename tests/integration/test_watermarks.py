"""The API's polls of a shard see whose rows changed."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import asyncpg

from api.query.changes import Changes
from db.pools import open_pool

PARTITION = 3


def watched(shard: str, test: Callable[[asyncpg.Pool, Changes, str], Awaitable[None]]) -> None:
    """Run a test with a partition that holds ten messages, seen by a first poll."""

    async def run() -> None:
        topic = f"watched.{uuid.uuid4().hex[:8]}"
        pool = await open_pool(shard, {}, size=2)
        try:
            await pool.execute(
                "INSERT INTO ingest_offset (topic, kafka_partition, topic_id, next_offset, "
                "applied_until) VALUES ($1, $2, $1, 10, now())",
                topic,
                PARTITION,
            )
            changes = Changes(pool, topic)
            await changes.poll()
            await test(pool, changes, topic)
        finally:
            await pool.execute("DELETE FROM ingest_offset WHERE topic = $1", topic)
            await pool.execute("DELETE FROM ingest_batch WHERE topic_id = $1", topic)
            await pool.execute(
                "DELETE FROM overtaken_order WHERE kafka_partition = $1 AND overtaken_by >= 10",
                PARTITION,
            )
            await pool.close()

    asyncio.run(run())


async def ten_more_messages(pool: asyncpg.Pool, topic: str) -> None:
    """A batch without rows."""
    await pool.execute(
        "INSERT INTO ingest_batch (topic_id, kafka_partition, start_offset, end_offset, messages, "
        "event_rows, item_rows, rejects, duplicates, min_logged_at, max_logged_at, logic_version) "
        "VALUES ($1, $2, 10, 20, 10, 0, 0, 10, 0, now(), now(), 2)",
        topic,
        PARTITION,
    )
    await pool.execute("UPDATE ingest_offset SET next_offset = 20 WHERE topic = $1", topic)


def test_a_poll_after_new_messages_sees_no_change_of_others(shard: str) -> None:
    async def test(pool: asyncpg.Pool, changes: Changes, topic: str) -> None:
        before = changes.stand(PARTITION, 71)
        await ten_more_messages(pool, topic)
        await changes.poll()
        after = changes.stand(PARTITION, 71)
        assert before is not None
        assert after is not None
        assert before.has_all_of(after)

    watched(shard, test)


def test_a_merchant_whose_order_was_overtaken_has_changed(shard: str) -> None:
    async def test(pool: asyncpg.Pool, changes: Changes, topic: str) -> None:
        before = {merchant: changes.stand(PARTITION, merchant) for merchant in (71, 72)}
        await pool.execute(
            "INSERT INTO overtaken_order (merchant_id, ts, kafka_partition, log_offset, "
            "overtaken_by) VALUES (71, now() - INTERVAL '1 day', $1, 4, 12)",
            PARTITION,
        )
        await ten_more_messages(pool, topic)
        await changes.poll()
        for merchant, changed in ((71, True), (72, False)):
            then, now = before[merchant], changes.stand(PARTITION, merchant)
            assert then is not None
            assert now is not None
            assert then.has_all_of(now) is not changed

    watched(shard, test)
