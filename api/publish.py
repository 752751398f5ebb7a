"""Accepted events to the topic; to the spool while the broker is away, and from there later."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from api import telemetry
from api.left_spools import LOOK_EVERY_S, left_bytes, take_one
from api.spool import Record, Spool, records_of
from background.supervisor import Supervisor
from events.check import MAX_MESSAGE_BYTES

log = structlog.get_logger(__name__)

DRAIN_EVERY_S: Final = 1.0
DRAIN_RECORDS: Final = 2_000  # produced at a time, as many bytes as fit into DRAIN_BYTES
DRAIN_BYTES: Final = 4 << 20
# What a message may have beside its value: its key and the batch's head.
OVERHEAD_BYTES: Final = 64 << 10
# Errors that name the record, not the broker: it would fail again for ever.
_REFUSED: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    }
)


class _Fate(Enum):
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # by the log, for what the record is
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that the log does not take: its index, and the log's reason."""

    index: int
    reason: str


class Publisher:
    """One idempotent producer, its delivery reports awaited. Its background tasks run under the
    process's supervisor; `close` when they have ended."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        options: dict[str, str],
        directory: Path,
        supervisor: Supervisor,
    ) -> None:
        self._topic = topic
        self.spool = Spool.take(directory)
        self.left_bytes = 0  # in spools of this data directory without a process
        self._root = directory.parent
        self._loop = asyncio.get_running_loop()
        self._settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            **options,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "zstd",
            "linger.ms": 5,
            "message.timeout.ms": 4_000,
            "message.max.bytes": MAX_MESSAGE_BYTES + OVERHEAD_BYTES,
            "log_level": 2,
        }
        self._producer = Producer(self._settings)
        supervisor.start("producer_poll", self._poll)
        supervisor.start("spool_drain", self._drain)
        supervisor.start("left_spools", self._take_over)

    async def publish(self, records: Sequence[Record]) -> list[Refused]:
        """Return once every record is acknowledged by the broker or fsynced in the spool, but for
        those that the log refuses, which are returned.

        While the spool holds anything, new records go behind it: a merchant's order is kept.

        Raises:
            SpoolFullError, SpoolBrokenError: the broker is away and the spool cannot take them:
                nothing more was accepted.
        """
        if self.spool.pending:
            await self.spool.append(records)
            return []
        fates = await self._produce(records)
        left = [
            record for record, (fate, _) in zip(records, fates, strict=True) if fate is _Fate.AWAY
        ]
        if left:
            await self.spool.append(left)
        return [
            Refused(index, reason)
            for index, (fate, reason) in enumerate(fates)
            if fate is _Fate.REFUSED
        ]

    async def close(self) -> None:
        """Flush and close; the supervisor has ended the tasks before."""
        await asyncio.to_thread(self._producer.flush, 5)
        await self.spool.flush()
        self.spool.close()

    async def _produce(self, records: Sequence[Record]) -> list[tuple[_Fate, str]]:
        """What became of each record, in order.

        The broker refuses a whole batch for its size, so records that came back refused are
        produced again one by one: only one that is refused alone is at fault.
        """
        fates = list(await asyncio.gather(*map(self._send, records)))
        refused = [at for at, (fate, _) in enumerate(fates) if fate is _Fate.REFUSED]
        if len(records) > 1:
            for at in refused:
                fates[at] = await self._send(records[at])
        return fates

    def _send(self, record: Record) -> asyncio.Future[tuple[_Fate, str]]:
        outcome: asyncio.Future[tuple[_Fate, str]] = self._loop.create_future()
        producer = self._producer

        def settle(error: KafkaError | None) -> None:
            if not outcome.done():
                outcome.set_result(self._fate(error, producer))

        def delivered(error: KafkaError | None, _: Message) -> None:
            self._loop.call_soon_threadsafe(settle, error)

        try:
            producer.produce(self._topic, record[1], record[0], on_delivery=delivered)
        except BufferError:  # the producer's queue is full: the spool is the queue behind it
            outcome.set_result((_Fate.AWAY, "the producer's queue is full"))
        except KafkaException as error:
            settle(error.args[0])
        return outcome

    def _fate(self, error: KafkaError | None, producer: Producer) -> tuple[_Fate, str]:
        if error is None:
            return _Fate.ACKNOWLEDGED, ""
        if error.code() in _REFUSED:
            return _Fate.REFUSED, error.str()
        fatal = error.fatal() or error.code() == KafkaError._FATAL
        if fatal and producer is self._producer:
            log.error("producer_failed", error=error.str())
            self._producer = Producer(self._settings)
        return _Fate.AWAY, error.str()

    async def _poll(self) -> None:
        while True:
            await asyncio.to_thread(self._producer.poll, 0.05)

    async def _drain(self) -> None:
        """Spool to topic, the oldest segment first, whenever there is any. After a crash a segment
        is produced again; its events have ids, so that they count once."""
        while True:
            telemetry.SPOOL_BYTES.set(self.spool.held)
            segment = self.spool.oldest()
            if segment is None:
                await asyncio.sleep(DRAIN_EVERY_S)
            else:
                await self._drain_segment(self.spool, segment)

    async def _take_over(self) -> None:
        """Drain spools that have no process."""
        while True:
            self.left_bytes = await asyncio.to_thread(left_bytes, self._root)
            telemetry.LEFT_SPOOL_BYTES.set(self.left_bytes)
            spool = await asyncio.to_thread(take_one, self._root) if self.left_bytes else None
            if spool is None:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            log.warning("spool_taken_over", directory=str(spool.directory), bytes=spool.held)
            try:
                while (segment := spool.oldest()) is not None:
                    await self._drain_segment(spool, segment)
                    self.left_bytes = spool.held
            finally:
                spool.close()

    async def _drain_segment(self, spool: Spool, segment: Path) -> None:
        """Until all of it is through. What was acknowledged is not produced again."""
        records = records_of(segment)
        left: list[Record] = []
        while True:
            group = left or await asyncio.to_thread(_group, records)
            if not group:
                break
            fates = await self._produce(group)
            self._bury(spool, group, fates)
            left = [
                record for record, (fate, _) in zip(group, fates, strict=True) if fate is _Fate.AWAY
            ]
            if left:
                telemetry.SPOOL_BYTES.set(self.spool.held)
                await asyncio.sleep(DRAIN_EVERY_S)
        spool.remove(segment)
        log.info("spool_drained", segment=str(segment))

    def _bury(
        self, spool: Spool, records: Sequence[Record], fates: Sequence[tuple[_Fate, str]]
    ) -> None:
        """Keep what the log refuses in the dead-letter file."""
        refused = [
            (record[1], reason)
            for record, (fate, reason) in zip(records, fates, strict=True)
            if fate is _Fate.REFUSED
        ]
        if refused:
            spool.bury([value for value, _ in refused])
            telemetry.DEAD_LETTERS.inc(len(refused))
            log.error(
                "dead_letters",
                file=str(spool.dead_letters),
                events=len(refused),
                reasons=sorted({reason for _, reason in refused}),
            )


def _group(records: Any) -> list[Record]:
    """The next records, as many as are produced at a time."""
    group: list[Record] = []
    size = 0
    for record in islice(records, DRAIN_RECORDS):
        group.append(record)
        size += len(record[1])
        if size >= DRAIN_BYTES:
            break
    return group
