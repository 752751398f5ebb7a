"""Restarts one at a time, while events and questions come: nobody notices."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_exactly_once import EVENTS, applied, send, settle
from tests.conftest import World
from tests.processes import Process, footfall, free_port, wait_until
from tests.service import Service, page_view, serving


def static(world: World, name: str) -> dict[str, str]:
    """The environment of an ingester that keeps its place for half a minute."""
    longer = {"FOOTFALL_KAFKA_OPTION_SESSION_TIMEOUT_MS": "30000"}
    return world.environment | longer | {"FOOTFALL_INSTANCE_ID": name}


def test_a_restarted_ingester_takes_its_place_again_and_moves_nothing(world: World) -> None:
    merchants = world.merchants(5)
    with (
        footfall("ingest", environment=static(world, "one")) as one,
        footfall("ingest", environment=static(world, "two")) as two,
    ):
        for each in (one, two):
            each.wait_for("ingesting")
        wait_until(lambda: shares(one, two), 60, "the partitions are not shared")
        send(world, merchants)
        wait_until(lambda: applied(world) > 0, 60, "nothing is applied")
        before = moves(two)
        one.send(signal.SIGTERM)
        assert one.end(40) == 0, "\n".join(one.lines)
        with footfall("ingest", environment=static(world, "one")) as again:
            again.wait_for("assigned", 20)
            send(world, merchants, 500)
            settle(world, merchants, EVENTS + 500)
        assert moves(two) == before, "\n".join(two.lines)


def moves(process: Process) -> int:
    """How often partitions came or went."""
    return sum("assigned" in line or "revoked" in line for line in process.lines)


def shares(*processes: Process) -> bool:
    """Whether each has some partitions and not all."""
    last = [[line for line in each.lines if '"assigned"' in line][-1:] for each in processes]
    return all(line and line[0].count(",") <= 5 and "[]" not in line[0] for line in last)


@contextmanager
def meanwhile(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Work beside the block, told to stop at its end."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Proxy:
    """As the one we deploy: it asks the workers whether they are ready, and tries the other where
    one refuses the connection. What was sent once is not sent again."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls
        self._ready = dict.fromkeys(urls, True)

    def watch(self, stop: threading.Event) -> None:
        """Ask until told to stop."""
        while not stop.wait(0.2):
            for url in self._urls:
                try:
                    answer = httpx.get(url + "/health/ready", timeout=5)
                    self._ready[url] = answer.status_code == 200
                except httpx.HTTPError:
                    self._ready[url] = False

    def post(self, path: str, body: dict[str, object], headers: dict[str, str]) -> httpx.Response:
        """The answer of a worker.

        Raises:
            httpx.HTTPError: none could be reached, or one did not answer.
        """
        for url in sorted(self._urls, key=lambda url: not self._ready[url]):
            try:
                return httpx.post(url + path, json=body, headers=headers, timeout=30)
            except httpx.ConnectError:
                continue
        raise httpx.ConnectError("no worker can be reached")


class Visitor:
    """Sends and asks without a pause; counts what did not go well."""

    def __init__(self, service: Service, proxy: Proxy, merchant: int) -> None:
        self.sent = 0
        self.wrong: list[str] = []
        self._service, self._proxy, self._merchant = service, proxy, merchant

    def visit(self, stop: threading.Event) -> None:
        """Send and ask until told to stop."""
        key = {"Authorization": f"Bearer {self._service.key(self._merchant)}"}
        question: dict[str, object] = {"metrics": ["events"], "date_range": "today"}
        while not stop.is_set():
            event = page_view(event_id=f"e-{self.sent}")
            asked: tuple[tuple[str, dict[str, object]], ...] = (
                ("/v1/events", event),
                ("/v1/query", question),
            )
            for path, body in asked:
                try:
                    answer = self._proxy.post(path, body, key)
                except httpx.HTTPError as error:
                    self.wrong.append(f"{path}: {error!r}")
                    continue
                if answer.status_code >= 300:
                    self.wrong.append(f"{path}: {answer.text}")
                elif path == "/v1/events":
                    self.sent += 1


def test_api_workers_restart_one_after_the_other_and_no_request_fails(
    world: World, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    drain = {"FOOTFALL_DRAIN_S": "2"}
    with ExitStack() as opened:
        ingester = opened.enter_context(footfall("ingest", environment=world.environment))
        ingester.wait_for("ingesting")
        running = {
            port: opened.enter_context(serving(world, tmp_path / str(port), port, drain))
            for port in ports
        }
        service = running[ports[0]][0]
        merchant = service.merchant()
        proxy = Proxy([each.url for each, _ in running.values()])
        visitor = Visitor(service, proxy, merchant)
        with meanwhile(proxy.watch), meanwhile(visitor.visit):
            for port in ports:
                time.sleep(1)
                running[port][1].send(signal.SIGTERM)
                assert running[port][1].end(40) == 0, "\n".join(running[port][1].lines)
                again = serving(world, tmp_path / str(port), port, drain)
                running[port] = opened.enter_context(again)
            time.sleep(1)
        assert not visitor.wrong
        assert visitor.sent > 20
        service.wait_for_events(merchant, visitor.sent)
        assert service.ask(merchant, metrics=["events"], date_range="7d")["rows"] == [
            {"events": visitor.sent}
        ]


@pytest.mark.parametrize("named", ["one", "one two three"])
def test_replicas_must_be_one_for_each_shard(named: str) -> None:
    from footfall.environment import Environment, EnvironmentMissingError

    given = {"FOOTFALL_SHARDS": "a b", "FOOTFALL_READ_SHARDS": named}
    with pytest.raises(EnvironmentMissingError, match="one for each shard"):
        Environment.read(given).readers()
