"""Reading ranges of the log again: any number of readers, no group, nothing committed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from operator import methodcaller
from typing import Final, TypeVar

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from db import history
from db.history import Offsets
from events.batch import Messages
from ingester.consume import FetchSize, as_columns
from reprocess.archive_files import Kept

T = TypeVar("T")
BATCH: Final = 50_000
BATCH_BYTES: Final = 32 << 20
SILENT_S: Final = 60.0
_error: Final = methodcaller("error")
_key: Final = methodcaller("key")
_offset: Final = methodcaller("offset")


class LogSource:
    """One partition's reader on a thread of its own; an async context manager's worth: `close`."""

    def __init__(self, bootstrap: str, topic: str, options: dict[str, str]) -> None:
        self._topic = topic
        self._fetch = FetchSize()
        self._next: tuple[int, int] | None = None  # the place that comes without a seek
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "queued.max.messages.kbytes": 65_536,
                "queued.min.messages": 100_000,
                "check.crcs": True,
                "log_level": 2,  # what goes wrong is raised; its lines would tear those of a table
                # A fetch that waits, at the log's end or for room in the queue, would hold up the
                # next range.
                "fetch.wait.max.ms": 10,
                "fetch.queue.backoff.ms": 10,
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

    def end(self, partition: int) -> int:
        """The ledger knows all that is read here."""
        return 0

    async def ranges(
        self, partition: int, window: tuple[datetime, datetime], lines: pl.DataFrame
    ) -> list[Offsets]:
        """Where the ledger says that anything of the window is."""
        return history.ranges_of(lines)

    async def read(
        self, partition: int, ranges: Sequence[Offsets], *, more: bool = False
    ) -> AsyncIterator[Messages]:
        """Every message of these ranges, in order, in batches of about 50,000 or 32 MiB.

        Args:
            more: whether what follows the last of them is asked for next.

        Raises:
            KafkaException: the log no longer holds a range, or does not answer.
        """
        async for held in self._batches(partition, ranges):
            yield await self._on_thread(partial(as_columns, held))
        if not more:
            await self._rest()

    async def read_with_keys(
        self, partition: int, ranges: Sequence[Offsets]
    ) -> AsyncIterator[Kept]:
        """The same, each message with its key."""
        async for held in self._batches(partition, ranges):
            yield await self._on_thread(partial(_kept, held))
        await self._rest()

    async def _batches(
        self, partition: int, ranges: Sequence[Offsets]
    ) -> AsyncIterator[list[Message]]:
        held: list[Message] = []
        size = 0
        for start, end in ranges:
            async for part in self._range(partition, start, end):
                held += part
                bytes_ = sum(map(len, part))
                self._fetch.learn(len(part), bytes_)
                size += bytes_
                if len(held) >= BATCH or size >= BATCH_BYTES:
                    yield held
                    held, size = [], 0
        if held:
            yield held

    async def _range(self, partition: int, start: int, end: int) -> AsyncIterator[list[Message]]:
        goes_on, self._next = self._next == (partition, start), None
        if not goes_on:
            await self._seek(partition, start)
        silent, at = 0.0, start
        while at < end:
            # No more than there are: the client would wait for the rest.
            count = min(self._fetch.messages, end - at)
            messages: list[Message] = await self._on_thread(
                partial(self._consumer.consume, count, 0.5)
            )
            good, at_end = _sorted_out(messages)
            silent = 0.0 if messages else silent + 0.5
            if silent >= SILENT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            if good:
                at = _offset(good[-1]) + 1
                yield good if at <= end else [each for each in good if _offset(each) < end]
            if at_end and not goes_on:
                return
            if at_end:  # it may be told of an end that the log had before
                await self._seek(partition, at)
                goes_on = False
        self._next = (partition, at)

    async def _rest(self) -> None:
        """Fetch nothing: a client at the log's end asks for more a hundred times a second."""
        self._next = None
        await self._on_thread(self._consumer.unassign)

    async def _seek(self, partition: int, offset: int) -> None:
        place = TopicPartition(self._topic, partition, offset)
        await self._on_thread(lambda: self._consumer.assign([place]))

    async def _on_thread(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, call))


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


def _kept(messages: list[Message]) -> Kept:
    return Kept(as_columns(messages), list(map(_key, messages)))
