"""What comes over a connection, or does not come, costs nobody else theirs."""

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import World
from tests.contract.test_public_keys import SHOP, from_page, public_key
from tests.processes import Process
from tests.service import Service, page_view, serving

MIB = 1 << 20


@pytest.fixture(scope="module")
def attacked(
    service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Process]]:
    """An API of its own, since what it is sent may harm it."""
    folder: Path = tmp_path_factory.mktemp("attacked")
    world: World = service.world
    with serving(world, folder) as (running, process):
        yield running, process


@contextmanager
def connections(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """Open ones, over which nothing was sent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4_000)), hard))
    address = urlsplit(service.url)
    assert address.hostname is not None
    assert address.port is not None
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((address.hostname, address.port), 10))
            for _ in range(count)
        ]


def begin_post(connection: socket.socket, query: str, headers: str, body: bytes, size: int) -> None:
    """A request whose body is announced as larger than what is sent of it."""
    head = f"POST /v1/events{query} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {size}\r\n\r\n"
    connection.sendall(head.encode() + body)


def test_connections_that_send_nothing_keep_nobody_out(attacked: tuple[Service, Process]) -> None:
    service, _ = attacked
    shop = service.merchant()
    with connections(service, 1_500) as opened:
        for each in opened[:100]:
            each.sendall(b"PRI * HTTP/2.0\r\n")
        service.send(shop, page_view())
        # Nor do they stay: they are closed when no request came within half a minute.
        opened[-1].settimeout(40)
        assert opened[-1].recv(100) in (b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n")


def test_pages_that_withhold_their_bodies_keep_nobody_out(
    attacked: tuple[Service, Process],
) -> None:
    service, _ = attacked
    shop, other = service.merchant(), service.merchant()
    key = public_key(service, shop)
    headers = f"Origin: {SHOP}\r\nContent-Type: text/plain\r\n"
    with connections(service, 200) as opened:
        for each in opened:
            begin_post(each, f"?key={key}", headers, b" " * 200_000, 250_000)
        time.sleep(0.5)
        large = [page_view(properties={"a": "x" * 4_000})] * 1_000
        for merchant in (shop, other):  # the shop's servers, and another shop
            service.send(merchant, *large)
        assert from_page(service, key, [page_view()]).status_code == 202
        busy = from_page(service, key, [page_view(properties={"a": "x" * 4_000})] * 50)
        assert (busy.status_code, busy.json()["code"]) == (429, "too_many_at_once")
        statuses = set()
        for each in opened:
            each.settimeout(20)
            statuses.add(each.recv(100)[9:12])
        assert statuses == {b"408", b"429"}
    assert from_page(service, key, [page_view(properties={"a": "x" * 4_000})] * 50).is_success


def test_a_page_is_refused_before_its_large_body_is_read(attacked: tuple[Service, Process]) -> None:
    service, _ = attacked
    key = public_key(service, service.merchant())
    with connections(service, 1) as (one,):
        headers = f"Origin: {SHOP}\r\nContent-Type: text/plain\r\n"
        begin_post(one, f"?key={key}", headers, b"", 5 * MIB)
        one.settimeout(10)
        assert one.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("body", [b"zz\r\n", b"5\r\nab", b"-1\r\n\r\n", b"2\r\nabXX"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/query"])
def test_malformed_chunks_are_the_clients_fault(
    attacked: tuple[Service, Process], path: str, body: bytes
) -> None:
    service, _ = attacked
    shop = service.merchant()
    before = failures(service)
    with connections(service, 1) as (one,):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {service.key(shop)}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        one.sendall(head.encode() + body)
        one.shutdown(socket.SHUT_WR)
        one.settimeout(10)
        assert one.recv(100)[:13] in (b"HTTP/1.1 400 ", b"")
    time.sleep(0.2)
    assert failures(service) == before


def failures(service: Service) -> float:
    """Requests that were answered with our own fault."""
    lines = [
        line
        for line in service.telemetry().splitlines()
        if line.startswith("footfall_api_requests_total{") and 'status_code="5' in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize(
    "path", ["a" * 5_000, "swagger-ui.css/..", "../page/", "%2e%2e", "nothing"]
)
def test_a_file_that_is_not_there_is_not_found(service: Service, path: str) -> None:
    assert httpx.get(f"{service.url}/schema/assets/{path}").status_code == 404


def test_answers_that_nobody_reads_take_little_memory(attacked: tuple[Service, Process]) -> None:
    service, process = attacked

    def held() -> int:
        """Bytes of its workers."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in children]
        return sum(pages) * resource.getpagesize()

    assert len(httpx.get(f"{service.url}/schema/assets/swagger-ui-bundle.js").content) > MIB
    before = held()
    with connections(service, 400) as opened:
        for each in opened:
            each.sendall(b"GET /schema/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(2)
        assert held() - before < 200 * MIB  # 400 copies are 560
        assert httpx.get(f"{service.url}/health/live").is_success


def test_refusals_arrive_and_leave_their_connection_open(service: Service) -> None:
    """Also where the body, larger than what a socket takes at once, was not read."""
    body = json.dumps([page_view(properties={"a": "x" * 4_000})] * 200).encode()
    ends = set()
    with httpx.Client(base_url=service.url) as client:
        for number in range(100):
            key = ("Bearer ff_none", "Basic x")[number % 2]
            path = ("/v1/events", "/v1/query", "/v1/nothing")[number % 3]
            answer = client.post(path, content=body, headers={"Authorization": key})
            assert answer.status_code in (401, 404)
            stream = answer.extensions["network_stream"]
            ends.add(stream.get_extra_info("client_addr"))
    assert len(ends) == 1
