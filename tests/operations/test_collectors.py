"""What the collectors' files must say so that no line is lost, whoever edits them."""

import re
from typing import Any

import yaml

from tests.processes import ROOT

BIT: dict[str, Any] = yaml.safe_load((ROOT / "edge/fluent-bit.yaml").read_text())
FLUENTD = (ROOT / "edge/fluentd.conf").read_text()
RSYSLOG = (ROOT / "edge/rsyslog.conf").read_text()
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def test_fluent_bit_takes_three_ways_and_keeps_all_on_disk() -> None:
    inputs = BIT["pipeline"]["inputs"]
    assert [each["name"] for each in inputs] == ["tail", "http", "forward"]
    assert all(each["storage.type"] == "filesystem" for each in inputs)
    assert BIT["service"]["storage.sync"] == "full"


def test_fluent_bit_keeps_a_chunk_until_it_is_acknowledged_and_never_gives_up() -> None:
    (output,) = BIT["pipeline"]["outputs"]
    assert output["name"] == "forward", "its kafka output acknowledges before the broker does"
    assert output["require_ack_response"] is True
    assert output["retry_limit"] == "no_limits"


def test_fluentd_keeps_a_chunk_until_the_broker_has_it_and_never_gives_up() -> None:
    for wanted in (
        "@type file",
        "retry_forever true",
        "overflow_action block",
        "required_acks -1",
        '"partitioner": "murmur2_random"',
        "exclude_message_key true",
    ):
        assert wanted in FLUENTD, wanted
    # Delivery reports come before the wait for them ends: no chunk is taken for sent by a time-out.
    waits = int(re.findall(r"handle_poll_timeout (\d+)", FLUENTD)[0])
    assert waits * 1000 > int(re.findall(r'"message.timeout.ms": (\d+)', FLUENTD)[0])
    assert [tag for tag in re.findall(r"^</?(\w+)", FLUENTD, re.MULTILINE) if tag] == [
        *("system", "system", "source", "source", "source", "source", "source", "source"),
        *("filter", "filter", "match", "match"),
    ]


def test_each_collector_is_told_all_that_its_file_asks_for() -> None:
    for service, text in (
        ("fluent-bit", (ROOT / "edge/fluent-bit.yaml").read_text()),
        ("fluentd", FLUENTD),
    ):
        asked = set(re.findall(r"(?:\$\{|ENV\[')(FOOTFALL_\w+)", text))
        assert asked == set(SERVICES[service]["environment"])


def test_ports_are_those_that_compose_publishes() -> None:
    listens = {each["port"] for each in BIT["pipeline"]["inputs"] if "port" in each}
    published = {int(port.rsplit(":", 1)[1]) for port in SERVICES["fluent-bit"]["ports"]}
    assert listens == published


def test_rsyslog_queues_on_disk_and_never_gives_up() -> None:
    for wanted in (
        'queue.filename="footfall"',
        'queue.saveOnShutdown="on"',
        'action.resumeRetryCount="-1"',
        'resubmitOnFailure="on"',
        '"partitioner=murmur2_random"',
        '"message.timeout.ms=0"',
    ):
        assert wanted in RSYSLOG, wanted
