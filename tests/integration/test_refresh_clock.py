"""A clock that is set back hides no late event."""

from datetime import UTC, datetime, timedelta

from db.pools import INGEST_SETTINGS
from db.refresh_queue import note, watermarks
from db.rollups import ROLLUPS
from tests.integration.trial import trial

BATCH = """
INSERT INTO ingest_batch (topic_id, kafka_partition, start_offset, end_offset, messages, event_rows,
       item_rows, rejects, duplicates, min_ts, max_ts, min_logged_at, max_logged_at, logic_version,
       committed_at)
VALUES ('clock', 7, 0, 1, 1, 1, 0, 0, 0, $1, $1, $2, $2, 2, $2)
"""
EVENT = """
INSERT INTO events (merchant_id, ts, event, visitor, visitor_register, visitor_rank, source,
       channel, device, is_bot, counted, units, kafka_partition, log_offset, logged_at)
VALUES (1, $1, 'page_view', 1, 1, 1, '(direct)', 'Direct', 'desktop', false, true, 0, 7, 0, $2)
"""


async def test_batches_of_a_clock_that_was_set_back_are_noted(shard: str) -> None:
    late = datetime(2026, 9, 9, 9, tzinfo=UTC)
    before = datetime(2026, 9, 20, 12, tzinfo=UTC)  # of the last pass
    async with trial(shard, INGEST_SETTINGS) as connection:
        await connection.execute("DELETE FROM refresh_day")
        await connection.execute("UPDATE refresh_state SET noted_at = $1", before)
        set_back = before - timedelta(minutes=5)
        await connection.execute(EVENT, late, set_back)
        await connection.execute(BATCH, late, set_back)
        seen = await watermarks(connection)
        await note(connection, set_back + timedelta(seconds=10), seen)
        noted = await connection.fetch("SELECT rollup, day FROM refresh_day")
        assert {row["rollup"] for row in noted} == {rollup.name for rollup in ROLLUPS}
        assert {row["day"] for row in noted} == {datetime(2026, 9, 9, tzinfo=UTC)}
