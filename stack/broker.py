"""One Apache Kafka broker (KRaft, a single node) that can be started, stopped and killed."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stack.database import end_process
from stack.npm import PartMissingError, Say, say_to_stderr
from stack.parts import java, kafka_jars

CLUSTER_ID: Final = "Zm9vdGZhbGwtZW1iZWRkZQ"
PORTS: Final = range(20_000, 32_768)
READY_WITHIN_S: Final = 90.0

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.retention.hours=8760
log.message.timestamp.type=LogAppendTime
log.segment.bytes=134217728
message.max.bytes=2097152
"""

_LOGGING: Final = """\
rootLogger.level=warn
rootLogger.appenderRef.file.ref=file
appender.file.type=File
appender.file.name=file
appender.file.fileName={log}
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c)%n
"""


class Broker:
    """A broker on loopback whose log lives in `data_dir`."""

    def __init__(self, data_dir: Path, say: Say = say_to_stderr) -> None:
        self._data_dir = data_dir
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._controller = 0

    @property
    def bootstrap(self) -> str:
        """The address for any Kafka client."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, and return once it answers; on the same port and data when started again.

        Raises:
            PartMissingError: it could not be fetched, or did not answer in time.
        """
        if self._port == 0:
            self._port, self._controller = _free_ports(2)
        properties = self._configure()
        kafka = self._kafka_command()
        if not (self._data_dir / "log" / "meta.properties").exists():
            formatted = subprocess.run(  # noqa: S603 - our own command
                [*kafka, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties],
                capture_output=True,
                text=True,
                check=False,
            )
            if formatted.returncode != 0:
                raise PartMissingError(f"Kafka could not set up its log:\n{formatted.stderr}")
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "stack.keeper", *kafka, "kafka.Kafka", properties],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it in order."""
        process, self._process = self._process, None
        if process is not None:
            end_process(process, gently=True)

    def kill(self) -> None:
        """End it as a crash would: the JVM dies with its keeper."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            end_process(process, gently=False)
            self._wait_until_port_is_free()

    def _configure(self) -> str:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        properties = self._data_dir / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                port=self._port, controller=self._controller, data=self._data_dir / "log"
            )
        )
        (self._data_dir / "log4j2.properties").write_text(
            _LOGGING.format(log=self._data_dir / "broker.log")
        )
        return str(properties)

    def _kafka_command(self) -> list[str]:
        return [
            java(),
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # a broker that lives for minutes gains nothing from C2
            "-Xshare:auto",
            f"-Dlog4j2.configurationFile={self._data_dir / 'log4j2.properties'}",
            "-cp",
            str(kafka_jars(self._say) / "*"),
        ]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                client.list_topics(timeout=1)
                # The first to ask for a group has their topic made, and a consumer would wait
                # seconds before it asked again.
                client.describe_consumer_groups(["-"], request_timeout=1)["-"].result()
            except KafkaException:
                time.sleep(0.05)
                continue
            return
        self.kill()
        log = self._data_dir / "broker.log"
        tail = log.read_text()[-2000:] if log.exists() else "(no log)"
        raise PartMissingError(f"the embedded Kafka did not answer; its log ends:\n{tail}")

    def _wait_until_port_is_free(self) -> None:
        for _ in range(100):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", self._port))
                except OSError:
                    time.sleep(0.1)
                else:
                    return


def _free_ports(count: int) -> list[int]:
    """Free ports below those that outgoing connections get: until the broker listens, any of them
    might take its port, even one that asks whether it answers yet."""
    found: list[int] = []
    for port in SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise PartMissingError(f"no free port on loopback in {PORTS.start} to {PORTS.stop - 1}")
