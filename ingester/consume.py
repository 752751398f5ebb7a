"""Reading the topic: one consumer of the group, its offsets taken from the shards and no one else.

The consumer lives on one thread of its own. Its calls are never cancelled: a cancelled `consume`
would drop messages in silence.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter, methodcaller
from typing import Any, Final, TypeVar

import numpy as np
import structlog
from confluent_kafka import (
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    ConfigResource,
)
from confluent_kafka.admin._listoffsets import OffsetSpec

from background.kafka_log import KafkaLog
from db.ledger import Held, Span
from events.batch import NO_MESSAGES, Messages
from ingester.batch import Batch
from ingester.settings import IngestSettings

log = structlog.get_logger(__name__)

AT_ONCE: Final = 10_000
AT_ONCE_BYTES: Final = 16 << 20
POLL_S: Final = 0.1
ASSIGN_WITHIN_S: Final = 60.0
POLICY_S: Final = 30.0
_LOST: Final = frozenset(
    {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}
)

T = TypeVar("T")

HeldOffsets = Callable[[str, dict[int, int]], Awaitable[list[Held]]]
Halt = Callable[[int, str], Awaitable[None]]

_value: Final = methodcaller("value")
_partition: Final = methodcaller("partition")
_offset: Final = methodcaller("offset")
_timestamp: Final = methodcaller("timestamp")
_stamp: Final = itemgetter(1)
_error: Final = methodcaller("error")


class AssignmentError(Exception):
    """The shards could not say where to read on: the consumer must not poll again."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic's name means at a time."""

    topic_id: str
    partitions: int
    cleanup_policy: str


@dataclass(slots=True)
class _Position:
    next_offset: int
    end: int = 0  # every message before it was handed out


class FetchSize:
    """How many messages to ask a consumer for at a time: as many as have 16 MiB, by the average of
    the last ones, and at most 10,000."""

    def __init__(self) -> None:
        self.messages = AT_ONCE

    def learn(self, messages: int, size: int) -> None:
        """So many messages had so many bytes."""
        if messages:
            average = max(1, size // messages)
            self.messages = max(1, min(AT_ONCE, AT_ONCE_BYTES // average))


class TopicReader:
    """The consumer and what it was assigned; an async context manager."""

    def __init__(self, settings: IngestSettings, held_offsets: HeldOffsets, halt: Halt) -> None:
        self._settings = settings
        self._held_offsets = held_offsets
        self._halt = halt
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka")
        self._loop = asyncio.get_running_loop()
        self._positions: dict[int, _Position] = {}
        self._unplaced: set[int] = set()  # assigned, but their shard has not said where to read on
        self._failed: BaseException | None = None
        self._fetch = FetchSize()
        self.on_assigned: Callable[[set[int]], None] = lambda _: None
        self.topic = Topic("", 0, "")  # as it was when the group was joined
        self.polled_at = time.time()
        self._policy = (-math.inf, "")
        common: dict[str, str | int | float | bool] = {
            "bootstrap.servers": settings.bootstrap,
            **settings.kafka_options,
        }
        self._admin = AdminClient({**common, "log_level": 2})
        if settings.instance_id:
            # The group keeps a static member's partitions for it until the session ends: long
            # enough for a restart. It does not leave the group when it closes.
            static = {"group.instance.id": settings.instance_id, "session.timeout.ms": 45_000}
        else:
            static = {"session.timeout.ms": 10_000}
        self._consumer = Consumer(
            {
                "queued.max.messages.kbytes": 65_536,
                "queued.min.messages": 100_000,
                "max.poll.interval.ms": 300_000,
                "check.crcs": True,
                # Says where a partition ends, also where the last offsets are no messages.
                "enable.partition.eof": True,
                **static,
                **common,
                # What exactly-once rests on is not for an operator's options to change.
                "group.id": f"footfall-ingest.{settings.topic}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "partition.assignment.strategy": "cooperative-sticky",
            },
            logger=KafkaLog(),
        )

    async def open(self) -> None:
        """Learn the topic's id and join the group.

        Raises:
            KafkaException: the topic does not exist or the broker does not answer.
        """
        self.topic = await self._on_thread(self._describe)
        await self._on_thread(
            lambda: self._consumer.subscribe(
                [self._settings.topic],
                on_assign=self._assign,
                on_revoke=self._revoked,
                on_lost=self._revoked,
            )
        )

    async def close(self) -> None:
        """Leave the group."""
        await self._on_thread(self._consumer.close)
        self._thread.shutdown()

    async def read(self) -> Messages:
        """Up to 10,000 messages as columns; none when there are none for a moment.

        Raises:
            AssignmentError: this consumer can no longer be trusted with its partitions.
        """
        messages: list[Message] = await self._on_thread(
            partial(self._consumer.consume, self._fetch.messages, POLL_S)
        )
        self.polled_at = time.time()
        if self._failed is not None:
            raise AssignmentError("cannot take up partitions") from self._failed
        if any(map(_error, messages)):
            messages = await self._without_errors(messages)
        taken = as_columns(messages)
        self._fetch.learn(len(taken), taken.size)
        return taken

    def batch(self, taken: Messages) -> Batch | None:
        """A batch of the messages whose partitions are still ours and that follow on.

        The spans begin where the last batch ended, so that offsets the log leaves out (transaction
        markers) are covered, and the ranges in the ledger touch.
        """
        spans = []
        keep = np.zeros(len(taken), bool)
        for partition in np.unique(taken.partitions).tolist():
            position = self._positions.get(partition)
            here = taken.partitions == partition
            if position is None:
                continue
            here &= taken.offsets >= position.next_offset
            if not here.any():
                continue
            keep |= here
            end = max(int(taken.offsets[here].max()) + 1, position.end)
            newest = int(taken.logged_ms[here].max())
            # A producer's clock may be ahead; nothing is fresher than now.
            logged_at = min(datetime.fromtimestamp(newest / 1000, UTC), datetime.now(UTC))
            spans.append(Span(partition, position.next_offset, end, logged_at))
            position.next_offset = end
        if not spans:
            return None
        return Batch(taken if keep.all() else taken.take(np.flatnonzero(keep)), tuple(spans))

    def without_messages(self, partitions: Iterable[int]) -> Batch | None:
        """A batch of offsets that are no messages, such as ends of transactions, which nothing
        follows yet. Of partitions of which no message waits for a batch."""
        now = datetime.now(UTC)
        spans = []
        for partition in sorted(partitions):
            position = self._positions.get(partition)
            if position is not None and position.next_offset < position.end:
                spans.append(Span(partition, position.next_offset, position.end, now))
                position.next_offset = position.end
        return Batch(NO_MESSAGES, tuple(spans)) if spans else None

    async def pause(self, partitions: set[int]) -> None:
        """Ask for no more of these until `resume`."""
        await self._on_thread(lambda: self._consumer.pause(self._places(partitions)))

    async def resume(self, partitions: set[int]) -> None:
        """Ask for these again."""
        await self._on_thread(lambda: self._consumer.resume(self._places(partitions)))

    async def reload(self, partitions: set[int]) -> None:
        """Go back to where the shards say these stand: the fence was moved by another.

        Raises:
            KafkaException, db.errors.TROUBLES: they are unplaced until a later call goes well.
        """
        ours = partitions & (set(self._positions) | self._unplaced)
        if not ours:
            return
        # Until this has gone well they have no position: what was dropped of them would be skipped.
        for partition in ours & set(self._positions):
            del self._positions[partition]
        self._unplaced |= ours
        bounds = await self._on_thread(lambda: self._bounds(self._consumer, ours))
        low = {partition: first for partition, (first, _) in bounds.items()}
        held = await self._held_offsets(self.topic_id, low)
        settled = []
        for each in held:
            reason = self._why_not(each, *bounds[each.partition])
            if reason is not None:
                self._positions.pop(each.partition, None)
                self._unplaced.discard(each.partition)
                await self._halt(each.partition, reason)
            elif each.moved_to is None:
                settled.append(each)
        await self._on_thread(lambda: self._seek(settled))

    async def log_ends(self) -> tuple[datetime, dict[int, int]]:
        """An instant, and where the log of each of our partitions ended at it or later."""
        seen_at = datetime.now(UTC)
        places = {
            TopicPartition(self._settings.topic, partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library leaves it so
            for partition in self._positions
        }
        if not places:
            return seen_at, {}
        asked = self._admin.list_offsets(places, request_timeout=10)
        ends = {}
        try:
            for place, answer in asked.items():
                ends[place.partition] = (await asyncio.wrap_future(answer)).offset
        except KafkaException:
            # After a change of leaders the client would ask the old way for minutes.
            topic = self._settings.topic
            await asyncio.to_thread(self._admin.list_topics, topic, timeout=5)
            raise
        return seen_at, ends

    async def current_topic(self) -> Topic:
        """What the topic's name means now.

        Raises:
            KafkaException: the broker does not answer, or the topic is gone.
        """
        return await asyncio.to_thread(self._describe)

    @property
    def partitions(self) -> set[int]:
        """What we read now."""
        return set(self._positions)

    @property
    def topic_id(self) -> str:
        """The topic's id when the group was joined."""
        return self.topic.topic_id

    @property
    def positions(self) -> dict[int, int]:
        """The offset behind the last batch of each of our partitions."""
        return {partition: each.next_offset for partition, each in self._positions.items()}

    def _describe(self) -> Topic:
        answer = self._admin.describe_topics(
            TopicCollection([self._settings.topic]), request_timeout=10
        )
        found = answer[self._settings.topic].result()
        return Topic(str(found.topic_id), len(found.partitions), self._cleanup_policy())

    def _cleanup_policy(self) -> str:
        """As it was at most half a minute ago."""
        asked_at, policy = self._policy
        if time.monotonic() - asked_at > POLICY_S:
            resource = ConfigResource(ConfigResource.Type.TOPIC, self._settings.topic)
            asked_at = time.monotonic()
            (asked,) = self._admin.describe_configs([resource], request_timeout=10).values()
            policy = str(asked.result()["cleanup.policy"].value)
            self._policy = asked_at, policy
        return policy

    def _places(self, partitions: set[int]) -> list[TopicPartition]:
        return [
            TopicPartition(self._settings.topic, partition)
            for partition in sorted(partitions & set(self._positions))
        ]

    def _seek(self, held: list[Held]) -> None:
        for each in held:
            if each.partition in self._positions or each.partition in self._unplaced:
                self._consumer.seek(
                    TopicPartition(self._settings.topic, each.partition, each.next_offset)
                )
                self._positions[each.partition] = _Position(each.next_offset)
                self._unplaced.discard(each.partition)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Runs within `consume`, on its thread. Were it to raise, the client would go on from
        wherever Kafka likes: so it never raises, and a failure ends this consumer."""
        try:
            gained = {place.partition for place in partitions}
            low = self._bounds(consumer, gained)
            asked = self._held_offsets(self.topic_id, {p: first for p, (first, _) in low.items()})
            held = asyncio.run_coroutine_threadsafe(_awaited(asked), self._loop).result(
                ASSIGN_WITHIN_S
            )
            readable = []
            for each in held:
                reason = self._why_not(each, *low[each.partition])
                if reason is None:
                    self._positions[each.partition] = _Position(each.next_offset)
                    readable.append(
                        TopicPartition(self._settings.topic, each.partition, each.next_offset)
                    )
                else:
                    asyncio.run_coroutine_threadsafe(
                        _awaited(self._halt(each.partition, reason)), self._loop
                    ).result(ASSIGN_WITHIN_S)
            # A shard that is away does not hold up the others: its partitions are ours, and read
            # from where it says once it answers. What comes of them until then is let go.
            self._unplaced |= gained - {each.partition for each in held}
            readable += [
                TopicPartition(self._settings.topic, partition, OFFSET_END)
                for partition in sorted(self._unplaced & gained)
            ]
            consumer.incremental_assign(readable)
            self.on_assigned(gained)
            log.info("assigned", partitions=sorted(self._positions))
        except Exception as error:
            self._failed = error

    def _bounds(self, consumer: Consumer, partitions: set[int]) -> dict[int, tuple[int, int]]:
        """The first offset that the log holds of each partition, and its end."""
        return {
            partition: consumer.get_watermark_offsets(
                TopicPartition(self._settings.topic, partition), timeout=30
            )
            for partition in partitions
        }

    def _why_not(self, held: Held, low: int, high: int) -> str | None:
        """Why a partition cannot be read on without losing or mistaking events."""
        if held.moved_to is not None:
            return None  # its new shard is asked once it is there
        if held.topic_id != self.topic_id:
            return (
                f"the topic was re-created (id {held.topic_id} before, {self.topic_id} now): "
                "its offsets mean other events; reprocess from the new log"
            )
        if held.next_offset < low:
            return (
                f"offsets {held.next_offset} to {low - 1} have left the log unread: "
                "replay them from an archive"
            )
        if held.next_offset > high:
            return f"the log was truncated to {high}, we had read up to {held.next_offset}"
        return None

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for place in partitions:
            self._positions.pop(place.partition, None)
            self._unplaced.discard(place.partition)
        log.info("revoked", partitions=[place.partition for place in partitions])

    async def _without_errors(self, messages: list[Message]) -> list[Message]:
        good = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                position = self._positions.get(message.partition() or 0)
                if position is not None:
                    position.end = max(position.end, message.offset() or 0)
            elif error.code() in _LOST:
                partition = message.partition()
                if partition is not None:
                    self._positions.pop(partition, None)
                    await self._halt(partition, f"{error.str()}: nothing is skipped in silence")
            elif error.fatal():
                raise KafkaException(error)
            else:
                log.warning("kafka", error=error.str())
        return good

    async def _on_thread(self, call: Callable[[], Any]) -> Any:
        """Run on the consumer's thread, shielded from cancellation."""
        return await asyncio.shield(self._loop.run_in_executor(self._thread, call))


def as_columns(messages: list[Message]) -> Messages:
    count = len(messages)
    return Messages(
        values=list(map(_value, messages)),
        partitions=np.fromiter(map(_partition, messages), np.int32, count),
        offsets=np.fromiter(map(_offset, messages), np.int64, count),
        logged_ms=np.fromiter(map(_stamp, map(_timestamp, messages)), np.int64, count),
    )


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
