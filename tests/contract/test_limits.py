"""Nobody spends another's points, whoever they say they are; and nothing grows by asking."""

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.counters import Counters
from api.limits import address_of
from tests.processes import wait_until
from tests.service import Service, page_view, serving

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def strict(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers behind a trusted proxy, with small limits."""
    folder: Path = tmp_path_factory.mktemp("strict")
    more = {
        "FOOTFALL_REQUESTS_PER_MINUTE": "60",
        "FOOTFALL_VISITOR_REQUESTS_PER_MINUTE": "20",
        "FOOTFALL_ADDRESS_REQUESTS_PER_MINUTE": "1000",
        "FOOTFALL_TRUSTED_PROXIES": "127.0.0.1",
    }
    with serving(service.world, folder, more=more, workers=2) as (running, _):
        yield running


def from_address(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


def an_address() -> str:
    return f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def early_in_a_minute() -> None:
    """A window is a minute of the clock: what is counted here must lie in one."""
    if time.time() % 60 > 40:
        time.sleep(61 - time.time() % 60)


def test_a_key_has_one_window_however_it_is_written(strict: Service) -> None:
    shop = strict.merchant()
    early_in_a_minute()
    written = ["Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}", "Bearer    {}", "Bearer \t{}"]
    statuses = []
    for number in range(75):
        header = written[number % len(written)].format(strict.key(shop))
        headers = {"Authorization": header, **from_address(an_address())}
        answer = httpx.get(f"{strict.url}/v1/merchants/{shop}/realtime", headers=headers)
        statuses.append(answer.status_code)
    assert statuses[:60] == [200] * 60  # of two workers together
    assert statuses[60:] == [429] * 15


def test_keys_that_are_none_cost_their_address_and_nobody_else(strict: Service) -> None:
    shop = strict.merchant()
    guesser, other = an_address(), an_address()
    early_in_a_minute()
    statuses = []
    for _ in range(15):
        token = "ff_" + "".join(random.choices("abcdefghij", k=43))
        headers = {"Authorization": f"Bearer {token}", **from_address(guesser)}
        statuses.append(httpx.get(f"{strict.url}/v1/schema", headers=headers).status_code)
        path = f"{strict.url}/v1/merchants/{shop}/realtime"
        statuses.append(httpx.get(path, headers=headers).status_code)
    assert statuses.count(401) == 10  # 102 points a round; the tenth spends what is left
    assert 429 in statuses
    answer = strict.call(
        "GET",
        f"/v1/merchants/{shop}/realtime",
        key=strict.key(shop),
        headers=from_address(other),
    )
    assert answer.status_code == 200


def test_one_visitor_does_not_lock_out_the_shops_others(strict: Service) -> None:
    shop = strict.merchant()
    body = {"scopes": ["events:write"], "origins": [SHOP]}
    made = strict.call("POST", f"/v1/merchants/{shop}/keys", key=strict.admin, json=body)
    path = f"/v1/events?key={made.json()['key']}"
    early_in_a_minute()

    def send(address: str) -> httpx.Response:
        plain = {"Origin": SHOP, "Content-Type": "text/plain", **from_address(address)}
        return strict.call("POST", path, key=None, json=page_view(), headers=plain)

    program, visitor = an_address(), an_address()
    answers = [send(program) for _ in range(25)]
    assert [answer.status_code for answer in answers] == [202] * 20 + [429] * 5
    refused = answers[-1]
    assert refused.headers["access-control-allow-origin"] == SHOP  # its page may read when to retry
    assert int(refused.headers["retry-after"]) >= 1
    assert send(visitor).status_code == 202


def test_each_browser_behind_the_proxy_has_its_own_window(strict: Service) -> None:
    early_in_a_minute()
    left = set()
    for address in (an_address(), an_address()):
        answer = httpx.get(f"{strict.url}/v1/schema", headers=from_address(address))
        left.add(answer.headers["ratelimit-remaining"])
    assert left == {"999"}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("unknown" * 100, ("unknown" * 100)[:64]),
    ],
)
def test_an_address_is_a_customers_network(host: str, name: str) -> None:
    assert address_of({"client": (host, 1)}) == name


def test_counters_take_the_same_memory_whoever_asks() -> None:
    memory = bytearray(1 << 20)
    counters = Counters(memory)
    names = [f"name {number}" for number in range(200_000)]
    for name in names:
        counters.spend(name, 1)
    assert len(memory) == 1 << 20
    counters.spend("busy", 1_000)
    for name in names:
        counters.spend(name, 1)
    assert counters.spent("busy") == 1_000  # the cheapest are forgotten first


def test_workers_share_counters(tmp_path: Path) -> None:
    one, other = (Counters.open(tmp_path / "counters") for _ in range(2))
    one.spend("k 1", 7)
    assert other.spent("k 1") == 7
    other.spend("k 1", 1)
    assert one.spent("k 1") == 8


def test_what_keyless_clients_send_grows_nothing(strict: Service) -> None:
    """Neither memory nor telemetry."""

    def memory() -> int:
        total = 0
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if f"FOOTFALL_API_PORT={port}".encode() in (status.parent / "environ").read_bytes():
                    (size,) = re.findall(r"VmRSS:\s+(\d+)", status.read_text())
                    total += int(size)
            except (OSError, ValueError):
                continue
        return total

    port = strict.environment["FOOTFALL_API_PORT"]
    with httpx.Client(base_url=strict.url) as http:

        def flood(count: int) -> None:
            for number in range(count):
                token = f"{number}" * 900
                headers = {"Authorization": f"Bearer {token}", **from_address(an_address())}
                http.get(f"/v1/merchants/{number}/realtime", headers=headers)
                http.get(f"/nowhere/{number}", headers=headers)
                http.request(f"METHOD{number}", "/v1/events", headers=headers)

        flood(200)
        before, lines = memory(), len(strict.telemetry().splitlines())
        flood(1_500)
        assert memory() - before < 12_000  # kB; eight megabytes of tokens were sent
        assert len(strict.telemetry().splitlines()) <= lines + 20


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/METRICS"])
def test_telemetry_is_on_no_public_port(strict: Service, path: str) -> None:
    answer = strict.call("GET", path, key=None)
    assert answer.status_code == 404
    assert "footfall_api_requests" not in answer.text
    assert "footfall_api_requests_total" in strict.telemetry()


def test_telemetry_is_of_all_workers(strict: Service) -> None:
    shop = strict.merchant()

    def told() -> float:
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in strict.telemetry().splitlines()
            if line.startswith("footfall_api_requests_total") and "/schema" in line
        )

    before = told()
    for _ in range(40):
        strict.call("GET", "/v1/schema", key=strict.key(shop))
    assert told() == before + 40


def test_readiness_costs_no_question_and_asks_no_shard(strict: Service) -> None:
    answers = [strict.call("GET", "/health/ready", key=None) for _ in range(50)]
    assert {answer.status_code for answer in answers} == {200}
    body = answers[0].json()
    assert body["status"] == "ok", body
    assert body["tasks"]["readiness"] == "ok"
    assert {"producer_poll", "spool_drain", "key_uses", "revocations"} <= set(body["tasks"])
    assert "ratelimit-limit" not in answers[0].headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/query"),
        ("POST", "/v1/merchants/1/funnel"),
        ("POST", "/v1/merchants/1/retention"),
        ("POST", "/v1/merchants"),
        ("POST", "/v1/merchants/1/keys"),
    ],
)
def test_a_key_is_looked_at_before_the_body(service: Service, method: str, path: str) -> None:
    for body in (b"{" * 100, b"[" + b"1," * 1_000_000 + b"1]"):
        answer = service.call(method, path, key=None, content=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "no_key")


def test_a_question_is_small(service: Service, shop: int) -> None:
    long: dict[str, Any] = {"metrics": ["events"], "filters": [["is", "page", ["x" * 70_000]]]}
    answer = service.call("POST", "/v1/query", key=service.key(shop), json=long)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    path = f"/v1/merchants/{shop}/timeseries?metrics={'x' * 9_000}"
    answer = service.call("GET", path, key=service.key(shop))
    assert (answer.status_code, answer.json()["code"]) == (414, "address_too_long")


def test_a_key_sent_twice_is_none(service: Service, shop: int) -> None:
    headers = [("Authorization", f"Bearer {service.key(shop)}")] * 2
    path = f"{service.url}/v1/merchants/{shop}/realtime"
    assert httpx.get(path, headers=headers).json()["code"] == "no_key"


def test_a_revoked_key_is_refused_though_it_cannot_be_looked_up(
    service: Service, shop: int, tmp_path: Path
) -> None:
    """The few connections for key look-ups are held up; the question's answer is cached."""
    with serving(service.world, tmp_path) as (own, _):
        made = own.command("keys", "create", "--merchant", str(shop), "--scope", "stats:read")

        def status() -> int:
            body = {"metrics": ["events"], "date_range": "7d"}
            return own.call("POST", "/v1/query", key=made["key"], json=body).status_code

        assert [status() for _ in range(5)] == [200] * 5
        with psycopg.connect(own.world.shards[0]) as revoking:
            revoking.execute(
                "WITH k AS (UPDATE api_key SET revoked_at = now() WHERE key_id = %s "
                "RETURNING key_id) INSERT INTO key_audit (key_id, action, actor) "
                "SELECT key_id, 'revoked', 'a test' FROM k",
                (made["key_id"],),
            )
        wait_until(lambda: status() == 401, 10, "a revoked key still asks")
