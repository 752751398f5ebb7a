"""Events that come late, again and again, while something else goes on."""

import threading
import time
from typing import Self

from footfall.simulate import DAY_MS, Shops
from tests.conftest import World


class Late(threading.Thread):
    """Sends events of the two days before an instant."""

    def __init__(self, world: World, merchant: int, before_ms: int) -> None:
        super().__init__(daemon=True)
        self._world, self._before = world, before_ms
        self._shops = Shops([merchant], 77)
        self._ended = threading.Event()
        self.sent = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(60)

    def run(self) -> None:
        """Until the end."""
        while not self._ended.is_set():
            day = self._before - 2 * DAY_MS
            messages = [
                (key, value.replace(b'"event_id": "', b'"event_id": "late-'))
                for key, value in self._shops.messages(20, day, self._before)
            ]
            self.sent += self._world.write(iter(messages))
            time.sleep(0.1)
