"""A shard with a week of simulated shops in it, as an ingester would have left it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import numpy as np

from db.ledger import Span, held_offsets
from db.pools import WRITER_SETTINGS, open_pool
from db.refresh import refresh_late
from events.batch import Messages
from events.enrich import Enrichment
from events.limits import Limits
from events.transform import process
from footfall.simulate import DAY_MS, Shops
from ingester.batch import Batch, Ready
from ingester.load import Loader

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
    ready = Ready(Batch(read, (span,)), process(read, limits=Limits(), enrichment=Enrichment()))
    await Loader(pool, "filled", timedelta(minutes=15)).load(ready)
    while True:
        try:
            await refresh_late(pool)
            break
        except asyncpg.LockNotAvailableError:  # the server's own policy is refreshing it
            await asyncio.sleep(0.2)
    pool.terminate()
