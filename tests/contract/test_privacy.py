"""Personal data goes no further than the API: not on the log, not into the table of rejects."""

import json
import uuid
from typing import Any

import psycopg
from confluent_kafka import Consumer

from footfall.topic import TopicWriter
from tests.processes import wait_until
from tests.service import Service, page_view

SECRET = "s3cr3t"
URL = f"https://u:{SECRET}@shop.example/cart?email={SECRET}&utm_source=mail&GCLID=c1#t={SECRET}"
REFERRER = f"https://login.example/callback?code={SECRET}"


def logged(service: Service) -> list[bytes]:
    """All values of the service's topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": service.world.bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    values: list[bytes] = []
    ended = 0
    consumer.subscribe([service.world.topic])
    try:
        topic = consumer.list_topics(service.world.topic).topics[service.world.topic]
        partitions = len(topic.partitions)
        while ended < partitions:
            for message in consumer.consume(1000, 1.0):
                if message.error() is not None:
                    ended += 1
                else:
                    values.append(message.value() or b"")
    finally:
        consumer.close()
    return values


def test_the_log_holds_no_address_no_query_and_no_fragment(service: Service, shop: int) -> None:
    name = f"page_{uuid.uuid4().hex[:12]}"
    service.send(shop, page_view(event=name, ip="203.0.113.7", url=URL, referrer=REFERRER))
    service.wait_for_events(shop, 1)
    (value,) = (each for each in logged(service) if name.encode() in each)
    sent: dict[str, Any] = json.loads(value)
    assert "ip" not in sent
    assert sent["url"] == "https://shop.example/cart?utm_source=mail&GCLID=c1"
    assert sent["referrer"] == "https://login.example/callback"
    assert SECRET.encode() not in value


def test_a_reject_from_the_topic_is_stored_without_them(service: Service, shop: int) -> None:
    event = page_view(event="Not a name", ip="203.0.113.7", url=URL, referrer=REFERRER)
    event |= {"merchant_id": shop, "event_id": uuid.uuid4().hex}
    writer = TopicWriter(service.world.bootstrap, service.world.topic, {})
    writer.write(str(shop).encode(), json.dumps(event).encode())
    writer.flush()

    def raws() -> list[bytes]:
        found: list[bytes] = []
        for dsn in service.world.shards:
            with psycopg.connect(dsn) as connection:
                asked = "SELECT raw FROM rejected_event WHERE event_id = %s"
                found += [raw for (raw,) in connection.execute(asked, (event["event_id"],))]
        return found

    wait_until(lambda: bool(raws()), 30, "the reject was not stored")
    (raw,) = raws()
    assert SECRET.encode() not in raw
    assert b"203.0.113.7" not in raw
    assert json.loads(raw)["url"] == "https://shop.example/cart?utm_source=mail&GCLID=c1"
