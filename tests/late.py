"""Events that come late, again and again, while something else goes on."""

import time

from footfall.simulate import DAY_MS, Shops
from tests.beside import Beside
from tests.conftest import World


class Late(Beside):
    """Sends events of the two days before an instant."""

    def __init__(self, world: World, merchant: int, before_ms: int) -> None:
        super().__init__()
        self._world, self._before = world, before_ms
        self._shops = Shops([merchant], 77)
        self.sent = 0

    def run(self) -> None:
        """Until the end."""
        while not self.ended.is_set():
            day = self._before - 2 * DAY_MS
            messages = [
                (key, value.replace(b'"event_id": "', b'"event_id": "late-'))
                for key, value in self._shops.messages(20, day, self._before)
            ]
            self.sent += self._world.write(iter(messages))
            time.sleep(0.1)
