"""What the Kafka client library says, as lines of our log."""

import structlog

log = structlog.get_logger("kafka_client")


class KafkaLog:
    """Takes what librdkafka hands to a `logging.Logger`, to be given to a client as `logger`."""

    def log(self, level: int, message: str, *values: object) -> None:
        """One line of it."""
        log.log(level, "kafka_client", detail=message % values if values else message)
