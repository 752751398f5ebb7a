"""The log into a new shard, by the loader of live ingest."""

import asyncio
from datetime import UTC, datetime
from functools import partial

from db import moves
from db.ledger import Span
from db.moves import Move, MoveError
from db.retry import patiently
from events.batch import Messages
from events.transform import process
from ingester.batch import Batch, Ready
from ingester.load import Loader
from reprocess.log_source import LogSource
from reprocess.mover import Checked, Mover


class Copy:
    """The log into the new shard, by the live loader under a fence of its own."""

    def __init__(self, mover: Mover, move: Move, topic_id: str, position: int) -> None:
        self.position = position
        self._mover = mover
        self._move = move
        settings, pool = mover.settings, mover.pools[move.target]
        self._source = LogSource(settings.bootstrap, settings.topic, settings.kafka_options)
        self._loader = Loader(
            pool, topic_id, mover.logic.dedupe_window, mover.reach, lives_in=move.source
        )

    @classmethod
    async def open(cls, mover: Mover, move: Move, checked: Checked) -> "Copy":
        """Make the new shard ready, and go on from where it stands."""
        pool, topic = mover.pools[move.target], mover.settings.topic
        position = await moves.open_target(pool, topic, move, checked.topic_id, checked.first)
        mover.reach("after_opening")
        return cls(mover, move, checked.topic_id, position)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._source.close()

    async def up_to(self, end: int) -> None:
        """Copy what lies before an offset.

        Raises:
            MoveError: the log does not reach there, or another process copies too.
        """
        if self.position >= end:
            return
        logic = self._mover.logic
        ranges = [(self.position, end)]
        async for messages in self._source.read(self._move.partition, ranges, more=True):
            await self._mover.pace.take(len(messages))
            processed = await asyncio.to_thread(
                process, messages, limits=logic.limits, enrichment=logic.enrichment
            )
            span = self._span(messages)
            ready = Ready(Batch(messages, (span,)), processed)
            loaded = await patiently(partial(self._loader.load, ready))
            if loaded.lost:
                await self._check_ours(span)
            self.position = span.end
        if self.position < end:
            raise MoveError(
                f"partition {self._move.partition}: the log holds nothing from offset "
                f"{self.position} to {end}, of which the old shard has read"
            )

    def _span(self, messages: Messages) -> Span:
        newest = int(messages.logged_ms.max())
        end = int(messages.offsets[-1]) + 1
        logged_at = datetime.fromtimestamp(newest / 1000, UTC)
        return Span(self._move.partition, self.position, end, logged_at)

    async def _check_ours(self, span: Span) -> None:
        """A lost answer to our own commit looks like a lost fence; it stands where we moved it."""
        pool = self._mover.pools[self._move.target]
        found = await moves.standing(pool, self._mover.settings.topic, span.partition)
        if found is None or found.next_offset != span.end:
            raise MoveError(f"another process copies partition {span.partition} too: let it")
