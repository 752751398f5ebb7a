"""A shard with a week of simulated shops in it, as an ingester would have left it."""

import asyncio
import math
import time
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import numpy as np

from db import runs, verifications
from db.ledger import Span, held_offsets
from db.measures import Sum
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import refresh_late
from db.runs import Changes, Done, Run, Slice
from db.verifications import Look
from events.batch import Messages
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import process
from footfall.simulate import DAY_MS, Shops
from ingester.batch import Batch, Ready
from ingester.load import Loader
from tests.keys import VISITOR_HASH

MERCHANTS = (1, 2, 3)
DAYS = 7


async def fill(dsn: str, events: int) -> None:
    """Events of some merchants over the last days, read from one partition and loaded."""
    now = int(time.time() * 1000)
    shops = Shops(list(MERCHANTS), 1)
    made = shops.messages(events, now - DAYS * DAY_MS, now)
    values: list[bytes | None] = [value for _, value in made]
    count = len(values)
    read = Messages(
        values, np.zeros(count, np.int32), np.arange(count), np.full(count, now, np.int64)
    )
    pool = await open_pool(dsn, WRITER_SETTINGS, size=2, command_timeout=600)
    await held_offsets(pool, "filled.events", "filled", {0: 0})
    span = Span(0, 0, count, datetime.now(UTC))
    ready = Ready(
        Batch(read, (span,)), process(read, limits=Limits(), enrichment=Enrichment(VISITOR_HASH))
    )
    await Loader(pool, "filled", timedelta(minutes=15)).load(ready)
    while True:
        try:
            await refresh_late(pool, math.inf)
            break
        except asyncpg.LockNotAvailableError:  # the server's own policy is refreshing it
            await asyncio.sleep(0.2)
    await _reprocessed(pool)
    pool.terminate()


async def _reprocessed(pool: asyncpg.Pool) -> None:
    """A run that goes on, as `reprocess run` leaves it: a slice in each state it may be in."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = timedelta(days=1)
    run = Run(
        run_id=str(uuid.uuid4()),
        topic="filled.events",
        topic_id="filled",
        window_start=midnight - 4 * day,
        window_end=midnight,
        merchant_id=None,
        logic_version=2,
        max_change=0.2,
        misplaced=timedelta(),
        sources=(),
        started_by="an operator",
        reason="newsletters were Referral",
    )
    parts = [Slice(0, midnight - n * day, midnight - (n - 1) * day) for n in (4, 3, 2, 1)]
    done, replaced, held, _pending = parts
    changes = Changes(
        before=3_000,
        after=3_000,
        changed=120,
        columns={"channel": 120},
        hours=[(done.start, done.end)],
    )
    sums = [Sum(done.start.date(), "events", 3_000, 3_000)]
    async with pool.acquire() as connection, connection.transaction():
        await runs.create(connection, run, parts)
        for part in (done, replaced):
            assert await runs.mark_replaced(
                connection, run.run_id, part, Done(3_100, changes, sums)
            )
    await runs.mark_done(pool, run.run_id, done)
    await runs.hold(pool, run.run_id, held, "orders would change by 30 %, more than 20 %")
    await verifications.note(
        pool, Look("filled.events", midnight - day, midnight, None, None, 1, 3_100, 2, False)
    )
