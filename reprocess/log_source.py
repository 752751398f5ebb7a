"""Reading ranges of the log again: any number of readers, no group, nothing committed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from typing import Final

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from db.history import Offsets
from events.batch import Messages
from ingester.consume import as_columns

AT_ONCE: Final = 10_000
BATCH: Final = 50_000
SILENT_S: Final = 60.0
_error: Final = methodcaller("error")


class LogSource:
    """One partition's reader on a thread of its own; an async context manager's worth: `close`."""

    def __init__(self, bootstrap: str, topic: str, options: dict[str, str]) -> None:
        self._topic = topic
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "queued.max.messages.kbytes": 65_536,
                "queued.min.messages": 100_000,
                "check.crcs": True,
                # A fetch that waits at the log's end would hold up the next range.
                "fetch.wait.max.ms": 10,
                **options,
                "group.id": f"footfall-replay.{topic}",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._on_thread(self._consumer.close)
        self._thread.shutdown()

    async def read(self, partition: int, ranges: Sequence[Offsets]) -> AsyncIterator[Messages]:
        """Every message of these ranges, in order, in batches of about 50,000.

        Raises:
            KafkaException: the log no longer holds a range, or does not answer.
        """
        held: list[Messages] = []
        for start, end in ranges:
            async for part in self._range(partition, start, end):
                held.append(part)
                if sum(map(len, held)) >= BATCH:
                    yield Messages.joined(held)
                    held = []
        if held:
            yield Messages.joined(held)

    async def _range(self, partition: int, start: int, end: int) -> AsyncIterator[Messages]:
        place = TopicPartition(self._topic, partition, start)
        await self._on_thread(lambda: self._consumer.assign([place]))
        silent, at = 0.0, start
        while True:
            # No more than there are: the client would wait for the rest.
            count = min(AT_ONCE, end - at)
            messages: list[Message] = await self._on_thread(
                lambda n=count: self._consumer.consume(n, 0.5)
            )
            good, at_end = _sorted_out(messages)
            silent = 0.0 if messages else silent + 0.5
            if silent >= SILENT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            if good:
                columns = as_columns(good)
                within = columns.offsets < end
                if within.any():
                    yield columns if within.all() else columns.take(np.flatnonzero(within))
                at = int(columns.offsets[-1]) + 1
                at_end = at_end or at >= end
            if at_end:
                return

    async def _on_thread(self, call: object) -> list[Message]:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, call))  # type: ignore[arg-type]


def _sorted_out(messages: list[Message]) -> tuple[list[Message], bool]:
    """The messages without events of the client, and whether the partition's end was reached."""
    errors = list(map(_error, messages))
    if not any(errors):
        return messages, False
    told = [error for error in errors if error is not None]
    for error in told:
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
    return [m for m, error in zip(messages, errors, strict=True) if error is None], True
