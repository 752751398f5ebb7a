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


async def test_it_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue()
    held: Memory[str, str] = Memory(catalogue.load)
    assert await held.get("key") == await held.get("key") == "key 1"
    monkeypatch.setattr(memory, "REMEMBER_S", -1.0)
    assert await held.get("key") == "key 2"
    held.forget("key")
    assert await held.get("key") == "key 3"


async def test_what_was_known_serves_while_the_catalogue_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = Catalogue()
    held: Memory[str, str] = Memory(catalogue.load)
    await held.get("key")
    catalogue.away = True
    monkeypatch.setattr(memory, "REMEMBER_S", -1.0)
    assert await held.get("key") == "key 1"
    with pytest.raises(ConnectionRefusedError):
        await held.get("another")
    monkeypatch.setattr(memory, "OUTAGE_S", -1.0)
    with pytest.raises(ConnectionRefusedError):
        await held.get("key")
