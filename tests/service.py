"""The whole service as merchants meet it: API and ingester as processes, reached by HTTP."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests import warm
from tests.conftest import World
from tests.processes import Process, footfall, free_port, wait_until

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"


def page_view(**fields: Any) -> dict[str, Any]:
    """A person's page view, now."""
    return {
        "event": "page_view",
        "visitor_id": "v-1",
        "url": "https://shop.example/",
        "user_agent": FIREFOX,
        "timestamp": int(time.time() * 1000),
        **fields,
    }


@dataclass(slots=True)
class Service:
    """A running API, and keys to ask it with."""

    world: World
    url: str
    environment: dict[str, str]
    _keys: dict[int, str] = field(default_factory=dict)
    _admin: str = ""

    def command(self, *words: str) -> Any:
        """What `footfall WORDS --json` prints."""
        done = warm.run([*words, "--json"], self.environment, 60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def admin(self) -> str:
        """An operator's key."""
        if not self._admin:
            self._admin = self.command("keys", "create", "--admin")["key"]
        return self._admin

    def merchant(self, **settings: str) -> int:
        """A new shop, by HTTP, with a key of its own."""
        given = {"name": "a shop", **settings}
        made = self.call("POST", "/v1/merchants", key=self.admin, json=given)
        assert made.status_code == 201, made.text
        number = int(made.json()["merchant_id"])
        scopes = {"scopes": ["events:write", "stats:read"]}
        key = self.call("POST", f"/v1/merchants/{number}/keys", key=self.admin, json=scopes)
        assert key.status_code == 201, key.text
        self._keys[number] = key.json()["key"]
        return number

    def key(self, merchant: int) -> str:
        """The shop's key."""
        return self._keys[merchant]

    def adopt(self, merchant: int, key: str) -> None:
        """A shop that was made before this API ran."""
        self._keys[merchant] = key

    def call(self, method: str, path: str, *, key: str | None, **how: Any) -> httpx.Response:
        """One request."""
        headers = how.pop("headers", {})
        if key is not None:
            headers = {"Authorization": f"Bearer {key}", **headers}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, **how)

    def telemetry(self) -> str:
        """What Prometheus reads, of all workers."""
        port = self.environment["FOOTFALL_TELEMETRY_PORT"]
        return httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text

    def send(self, merchant: int, *events: dict[str, Any]) -> None:
        """Events that must all be accepted."""
        sent = self.call("POST", "/v1/events", key=self.key(merchant), json=list(events))
        assert sent.status_code == 202, sent.text
        assert sent.json() == {"accepted": len(events), "rejected": []}, sent.text

    def ask(self, merchant: int, **query: Any) -> dict[str, Any]:
        """The answer to a query."""
        answer = self.call("POST", "/v1/query", key=self.key(merchant), json=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for_events(self, merchant: int, count: int, seconds: float = 30) -> None:
        """Until the API answers that many events."""

        def there() -> bool:
            answer = self.ask(merchant, metrics=["events"], date_range="90d")
            return int(answer["rows"][0]["events"]) >= count

        wait_until(there, seconds, f"{count} events are not in the answer")

    def wait_until_fresh(self, merchant: int, seconds: float = 60) -> None:
        """Until every number, late events' too, holds all that was logged up to now."""
        now = datetime.now(UTC)

        def fresh() -> bool:
            as_of = self.ask(merchant, metrics=["events"], date_range="7d")["meta"]["fresh_as_of"]
            return as_of is not None and datetime.fromisoformat(as_of) >= now

        wait_until(fresh, seconds, f"the answers of merchant {merchant} are not fresh")


@contextmanager
def serving(
    world: World,
    data_dir: Path,
    port: int | None = None,
    more: dict[str, str] | None = None,
    workers: int = 1,
) -> Iterator[tuple[Service, Process]]:
    """An API of this world, with more of the environment where it is given."""
    port = port or free_port()
    own = {**world.environment, "FOOTFALL_API_PORT": str(port), "FOOTFALL_DATA_DIR": str(data_dir)}
    limits = ("REQUESTS", "ADDRESS_REQUESTS", "VISITOR_REQUESTS")
    own |= {f"FOOTFALL_{name}_PER_MINUTE": "1000000" for name in limits} | (more or {})
    own |= {"FOOTFALL_TELEMETRY_PORT": str(free_port())}
    with footfall("serve", "--workers", str(workers), environment=own) as process:
        process.wait_for("serving")
        url = f"http://127.0.0.1:{port}"
        yield Service(world, url, {**os.environ, **own}), process
