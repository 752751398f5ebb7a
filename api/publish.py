"""Accepted events to the topic; to the spool while the broker is away, and from there later."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from confluent_kafka import KafkaError, Message, Producer

from api import telemetry
from api.spool import Record, Spool, records_of

log = structlog.get_logger(__name__)

DRAIN_EVERY_S: Final = 1.0


class Publisher:
    """One idempotent producer, its delivery reports awaited; an async context manager's worth of
    lifetime: `start`, then `close`."""

    def __init__(
        self, bootstrap: str, topic: str, options: dict[str, str], directory: Path
    ) -> None:
        self._topic = topic
        self.spool = Spool(directory)
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                **options,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "zstd",
                "linger.ms": 5,
                "message.timeout.ms": 4_000,
                "log_level": 2,
            }
        )
        self._closing = asyncio.Event()
        self._tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._drain())]

    async def publish(self, records: Sequence[Record]) -> None:
        """Return once every record is acknowledged by the broker or fsynced in the spool.

        While the spool holds anything, new records go behind it: a merchant's order is kept.

        Raises:
            SpoolFullError: the broker is away and the spool is full: nothing was accepted.
        """
        if self.spool.pending:
            await self.spool.append(records)
            return
        left = await self._produce(records)
        if left:
            await self.spool.append(left)

    async def close(self) -> None:
        """Flush and stop."""
        self._closing.set()
        await asyncio.to_thread(self._producer.flush, 5)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.spool.close()

    async def _produce(self, records: Sequence[Record]) -> list[Record]:
        """Produce; the records that were not acknowledged, in order."""
        outcomes = [self._send(record) for record in records]
        results = await asyncio.gather(*outcomes)
        return [record for record, ok in zip(records, results, strict=True) if not ok]

    def _send(self, record: Record) -> asyncio.Future[bool]:
        outcome: asyncio.Future[bool] = self._loop.create_future()

        def settle(acknowledged: bool) -> None:
            if not outcome.done():
                outcome.set_result(acknowledged)

        def delivered(error: KafkaError | None, _: Message) -> None:
            self._loop.call_soon_threadsafe(settle, error is None)

        try:
            self._producer.produce(self._topic, record[1], record[0], on_delivery=delivered)
        except BufferError:  # the producer's queue is full: the spool is the queue behind it
            outcome.set_result(False)
        return outcome

    async def _poll(self) -> None:
        while not self._closing.is_set():
            await asyncio.to_thread(self._producer.poll, 0.05)

    async def _drain(self) -> None:
        """Spool to topic, a segment at a time, whenever there is any. A segment may be produced
        twice after a crash; its events bear ids, so that they count once."""
        while not self._closing.is_set():
            await asyncio.sleep(DRAIN_EVERY_S)
            waiting = self.spool.segments()
            telemetry.SPOOL_BYTES.set(sum(segment.stat().st_size for segment in waiting))
            for segment in waiting:
                left = await self._produce(list(records_of(segment)))
                if left:
                    break
                segment.unlink()
                log.info("spool_drained", segment=segment.name)
