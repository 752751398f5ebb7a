"""Restarts one at a time, while events and questions come: nobody notices."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_exactly_once import EVENTS, applied, send, settle
from tests.conftest import World
from tests.processes import Process, footfall, wait_until
from tests.service import Service, free_port, page_view, serving


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


class Visitor:
    """Sends and asks without a pause, as through a proxy that tries the other worker where one
    refuses the connection; counts what did not go well."""

    def __init__(self, service: Service, urls: list[str], merchant: int) -> None:
        self.sent = 0
        self.wrong: list[str] = []
        self._service, self._urls, self._merchant = service, urls, merchant
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        key = {"Authorization": f"Bearer {self._service.key(self._merchant)}"}
        question: dict[str, object] = {"metrics": ["events"], "date_range": "today"}
        while not self._stop.is_set():
            event = page_view(event_id=f"e-{self.sent}")
            asked: tuple[tuple[str, dict[str, object]], ...] = (
                ("/v1/events", event),
                ("/v1/query", question),
            )
            for path, body in asked:
                answer = self._through_the_proxy(path, body, key)
                if answer is None or answer.status_code >= 300:
                    self.wrong.append(f"{path}: {answer and answer.text}")
                elif path == "/v1/events":
                    self.sent += 1

    def _through_the_proxy(
        self, path: str, body: dict[str, object], headers: dict[str, str]
    ) -> httpx.Response | None:
        for url in self._urls:
            try:
                return httpx.post(url + path, json=body, headers=headers, timeout=30)
            except httpx.ConnectError:
                continue
            except httpx.HTTPError as error:
                self.wrong.append(repr(error))
        return None


def test_api_workers_restart_one_after_the_other_and_no_request_fails(
    world: World, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    with ExitStack() as opened:
        ingester = opened.enter_context(footfall("ingest", environment=world.environment))
        ingester.wait_for("ingesting")
        running = {
            port: opened.enter_context(serving(world, tmp_path / str(port), port)) for port in ports
        }
        service = running[ports[0]][0]
        merchant = service.merchant()
        visitor = Visitor(service, [s.url for s, _ in running.values()], merchant)
        with visitor.busy():
            for port in ports:
                time.sleep(1)
                running[port][1].send(signal.SIGTERM)
                assert running[port][1].end(40) == 0, "\n".join(running[port][1].lines)
                running[port] = opened.enter_context(serving(world, tmp_path / str(port), port))
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
