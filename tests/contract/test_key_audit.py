"""What is done to keys is written down, and when each was last used."""

from datetime import UTC, datetime
from typing import Any

from api import key_uses
from tests.processes import wait_until
from tests.service import Service, page_view


def test_the_audit_trail_says_who_did_what_to_which_key(service: Service, shop: int) -> None:
    made = service.command("keys", "create", "--merchant", str(shop), "--scope", "stats:read")
    path = f"/v1/merchants/{shop}/keys/{made['key_id']}"
    rotated = service.call("POST", f"{path}/rotate", key=service.admin).json()
    service.command("keys", "revoke", str(rotated["key_id"]))
    trail: list[dict[str, Any]] = service.command("keys", "audit", "--merchant", str(shop))
    told = [(line["key_id"], line["action"], line["actor"].split(" ")[0]) for line in trail]
    person = told[0][2]
    assert "@" in person
    first, second = made["key_id"], rotated["key_id"]
    assert told[0] == (second, "revoked", person)
    assert sorted(told[1:3]) == [(first, "rotated", "key"), (second, "created", "key")]
    assert told[3] == (first, "created", person)
    assert trail[3]["detail"] == "stats:read"


def test_a_listed_key_says_when_it_was_last_used(service: Service, shop: int) -> None:
    def last_used() -> list[str | None]:
        path = f"/v1/merchants/{shop}/keys"
        keys = service.call("GET", path, key=service.admin).json()["keys"]
        return [key["last_used_at"] for key in keys]

    assert last_used() == [None]
    service.send(shop, page_view())
    wait_until(lambda: last_used() != [None], key_uses.WRITE_EVERY_S + 30, "no use was noted")
    (at,) = last_used()
    assert abs((datetime.now(UTC) - datetime.fromisoformat(str(at))).total_seconds()) < 120
