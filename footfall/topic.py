"""The topic: made as the contract wants it, and filled from files."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from confluent_kafka.cimpl import NewTopic

from events.check import MAX_MESSAGE_BYTES
from events.lines import key_of, lines_of

YEAR_MS: Final = 366 * 86_400_000
ANSWER_WITHIN_S: Final = 10.0
KNOWN_WITHIN_S: Final = 30.0
# The broker's limit is on a batch, with its head and the keys: twice the largest event has room.
TOPIC_MESSAGE_BYTES: Final = 2 * MAX_MESSAGE_BYTES
PRODUCER_MESSAGE_BYTES: Final = MAX_MESSAGE_BYTES + (64 << 10)


class TopicError(Exception):
    """The topic is not as it must be, or does not become so; the sentence says what to do."""


def ensure_topic(bootstrap: str, topic: str, partitions: int, options: dict[str, str]) -> int:
    """Create the topic where it does not exist; its number of partitions. One that exists is made
    to take events of the largest size that the API accepts, to stamp messages with its own time,
    and to keep each until its time is up.

    Raises:
        KafkaException: the broker refuses or does not answer.
        TopicError: the topic does not become what it must be.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2, **options})
    wanted = NewTopic(
        topic,
        num_partitions=partitions,
        config={
            "retention.ms": str(YEAR_MS),
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "max.message.bytes": str(TOPIC_MESSAGE_BYTES),
        },
    )
    for created in admin.create_topics([wanted]).values():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            _mend(admin, topic)
            return _partitions(admin, topic, at_least=1)
    return _partitions(admin, topic, at_least=partitions)


def settings_of(admin: AdminClient, topic: str) -> dict[str, str]:
    """The topic's settings.

    Raises:
        KafkaException: the broker refuses or does not answer.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    (asked,) = admin.describe_configs([resource], request_timeout=ANSWER_WITHIN_S).values()
    return {name: str(entry.value) for name, entry in asked.result().items()}


def wrong_settings(settings: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Settings with which events would be refused, lost, or dated by their producers: the value
    that each should have, and why."""
    wrong = {}
    if int(settings["max.message.bytes"]) < PRODUCER_MESSAGE_BYTES:
        wrong["max.message.bytes"] = (
            str(TOPIC_MESSAGE_BYTES),
            "large events go to dead-letters.jsonl",
        )
    if settings["message.timestamp.type"] != "LogAppendTime":
        wrong["message.timestamp.type"] = (
            "LogAppendTime",
            "freshness and the bounds of event time would follow the producers' clocks",
        )
    if settings["cleanup.policy"] != "delete":
        wrong["cleanup.policy"] = ("delete", "compaction removes all but a merchant's last event")
    return wrong


def _mend(admin: AdminClient, topic: str) -> None:
    wrong = wrong_settings(settings_of(admin, topic))
    if not wrong:
        return
    changes = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, (value, _) in wrong.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()


def _partitions(admin: AdminClient, topic: str, at_least: int) -> int:
    """How many the topic has, once the brokers know of them: not at once after its creation."""
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while True:
        found = admin.list_topics(topic, timeout=ANSWER_WITHIN_S).topics[topic]
        led = [each for each in found.partitions.values() if each.leader >= 0]
        if found.error is None and len(led) == len(found.partitions) >= at_least:
            return len(led)
        if time.monotonic() > deadline:
            raise TopicError(
                f"The brokers know {len(led)} of {at_least} partitions of topic {topic} with a "
                f"leader after {KNOWN_WITHIN_S:.0f} seconds: look at the brokers, then run "
                "`footfall migrate` again."
            )
        time.sleep(0.1)


class TopicWriter:
    """A producer that counts what the broker acknowledged.

    Raises:
        KafkaException: the broker does not answer.
    """

    def __init__(self, bootstrap: str, topic: str, options: dict[str, str]) -> None:
        self._topic = topic
        self.acknowledged = 0
        self.failed: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                **options,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 20,
                "compression.type": "zstd",
                "queue.buffering.max.messages": 200_000,
                "message.max.bytes": PRODUCER_MESSAGE_BYTES,
                "log_level": 2,  # what fails for good comes back as a delivery report
            }
        )
        # One that has not met its broker keeps its first messages back for half a second or more.
        self._producer.list_topics(topic, timeout=ANSWER_WITHIN_S)

    def write(self, key: bytes, value: bytes | None) -> None:
        """Hand in one message; waits while the queue is full.

        Raises:
            KafkaException: an earlier message was refused for good.
        """
        if self.failed is not None:
            raise KafkaException(self.failed)
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Return once everything handed in is acknowledged.

        Raises:
            KafkaException: something was refused for good.
        """
        self._producer.flush()
        if self.failed is not None:
            raise KafkaException(self.failed)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failed = error


def messages_of(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The lines of a file as messages, each with its key."""
    for line in lines_of(path):
        yield key_of(line), line


def load(
    messages: Iterable[tuple[bytes, bytes]],
    writer: TopicWriter,
    tick: Callable[[int], None] = lambda _: None,
) -> int:
    """Write messages to the topic; how many. `tick` hears of every thousandth."""
    count = 0
    for key, value in messages:
        writer.write(key, value)
        count += 1
        if count % 1000 == 0:
            tick(count)
    writer.flush()
    return count
