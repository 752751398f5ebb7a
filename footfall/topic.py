"""The topic: made as the contract wants it, and filled from files."""

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
# The broker's limit is on a batch, with its head and the keys: twice the largest event has room.
TOPIC_MESSAGE_BYTES: Final = 2 * MAX_MESSAGE_BYTES
PRODUCER_MESSAGE_BYTES: Final = MAX_MESSAGE_BYTES + (64 << 10)


def ensure_topic(bootstrap: str, topic: str, partitions: int, options: dict[str, str]) -> int:
    """Create the topic where it does not exist; its number of partitions. One that exists is made
    to take events of the largest size that the API accepts.

    Raises:
        KafkaException: the broker refuses or does not answer.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, **options})
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
            if message_bytes(admin, topic) < PRODUCER_MESSAGE_BYTES:
                _raise_message_bytes(admin, topic)
    return len(admin.list_topics(topic, timeout=ANSWER_WITHIN_S).topics[topic].partitions)


def message_bytes(admin: AdminClient, topic: str) -> int:
    """The topic's `max.message.bytes`.

    Raises:
        KafkaException: the broker refuses or does not answer.
    """
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    (asked,) = admin.describe_configs([resource], request_timeout=ANSWER_WITHIN_S).values()
    return int(asked.result()["max.message.bytes"].value)


def _raise_message_bytes(admin: AdminClient, topic: str) -> None:
    change = ConfigEntry(
        "max.message.bytes",
        str(TOPIC_MESSAGE_BYTES),
        incremental_operation=AlterConfigOpType.SET,
    )
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()


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
