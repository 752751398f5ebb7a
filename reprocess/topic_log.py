"""What the broker says of the topic: whether it still is what the ledger was made from."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]  # re-exported

from db.history import Offsets
from db.runs import Slice
from reprocess.settings import ReprocessSettings

_BYTES_SAMPLE: Final = 200
_SAMPLE_WITHIN_S: Final = 5.0


class RefusedError(Exception):
    """The window cannot be made again; the sentence says why and what to do."""


class TopicLog:
    """What the broker says of the topic."""

    def __init__(self, settings: ReprocessSettings) -> None:
        self._topic = settings.topic
        self._known: dict[int, Offsets] = {}
        common: dict[str, str | int | float | bool] = {
            "bootstrap.servers": settings.bootstrap,
            **settings.kafka_options,
        }
        self._admin = AdminClient({**common, "log_level": 3})  # consumers' options are no news
        self._consumer = Consumer(
            {**common, "group.id": f"footfall-replay.{settings.topic}", "log_level": 2}
        )

    def close(self) -> None:
        """Leave nothing behind."""
        self._consumer.close()

    def topic_id(self) -> str:
        """The id that the topic's name has now."""
        answer = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=10)
        return str(answer[self._topic].result().topic_id)

    def check_kept(self) -> None:
        """A compacted topic has dropped events that were counted.

        Raises:
            RefusedError: it is compacted.
        """
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        config = self._admin.describe_configs([resource], request_timeout=10)[resource].result()
        policy = config["cleanup.policy"].value
        if policy != "delete":
            raise RefusedError(
                f"topic {self._topic} has cleanup.policy={policy}: events may have been dropped "
                "from it. `footfall reprocess run --source` replays them from an archive"
            )

    def check_held(self, each: Slice, ranges: Sequence[Offsets]) -> None:
        """Every offset must still be in the log.

        Raises:
            RefusedError: some are not.
        """
        low, high = self.bounds(each.partition)
        if ranges[0][0] < low:
            raise RefusedError(
                f"partition {each.partition}, {each.start:%Y-%m-%d}: offsets {ranges[0][0]} to "
                f"{low - 1} have left the log. `footfall reprocess run --source` replays them "
                "from an archive; or ask for a later window"
            )
        if ranges[-1][1] > high:
            raise RefusedError(
                f"partition {each.partition}: the log ends at {high}, the ledger at "
                f"{ranges[-1][1]}: it was truncated"
            )

    def bounds(self, partition: int) -> Offsets:
        """The first offset that the log still holds, and the one that it will give next."""
        if partition not in self._known:
            place = TopicPartition(self._topic, partition)
            self._known[partition] = self._consumer.get_watermark_offsets(place, timeout=30)
        return self._known[partition]

    def bytes_a_message(self, partition: int, ranges: Sequence[Offsets]) -> float:
        """The mean of a few messages, unpacked."""
        first = ranges[0][0]
        there = min(_BYTES_SAMPLE, self.bounds(partition)[1] - first)  # more would be waited for
        self._consumer.assign([TopicPartition(self._topic, partition, first)])
        messages = self._consumer.consume(there, _SAMPLE_WITHIN_S) if there > 0 else []
        sizes = [len(m.value() or b"") + len(m.key() or b"") for m in messages if not m.error()]
        return sum(sizes) / len(sizes) if sizes else 0.0
