"""Threads that do something over and over while a test does something else."""

import threading
from typing import ClassVar, Self


class Beside(threading.Thread):
    """Runs within a `with`; `run` goes on until `ended` is set."""

    END_WITHIN_S: ClassVar = 60.0

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join(self.END_WITHIN_S)
