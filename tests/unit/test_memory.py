"""What the API remembers of the catalogue, and while that is away."""

import pytest

from api import memory
from api.memory import Memory


class Catalogue:
    """One that can be away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    async def load(self, name: str) -> str:
        self.asked += 1
        if self.away:
            raise ConnectionRefusedError("away")
        return f"{name} {self.asked}"


async def test_it_is_asked_again_after_a_while() -> None:
    catalogue = Catalogue()
    held: Memory[str, str] = Memory(catalogue.load)
    assert held.held("key") is None
    assert await held.get("key") == await held.get("key") == held.held("key") == "key 1"
    held.remember_s = -1.0
    assert held.held("key") is None
    assert await held.get("key") == "key 2"
    held.forget("key")
    assert await held.get("key") == "key 3"


async def test_what_is_not_there_is_asked_for_again_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str | None] = [None, "made meanwhile", "changed meanwhile"]

    async def load(_: str) -> str | None:
        return found.pop(0)

    held: Memory[str, str | None] = Memory(load, remember_s=60)
    assert await held.get("shop") is None
    monkeypatch.setattr(memory, "REMEMBER_S", -1.0)
    assert await held.get("shop") == "made meanwhile"
    assert await held.get("shop") == "made meanwhile"


async def test_what_was_known_serves_while_the_catalogue_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = Catalogue()
    held: Memory[str, str] = Memory(catalogue.load, remember_s=-1.0)
    await held.get("key")
    catalogue.away = True
    assert await held.get("key") == "key 1"
    with pytest.raises(ConnectionRefusedError):
        await held.get("another")
    monkeypatch.setattr(memory, "OUTAGE_S", -1.0)
    with pytest.raises(ConnectionRefusedError):
        await held.get("key")
