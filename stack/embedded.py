"""Broker and databases together, as one context manager."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.broker import Broker
from stack.database import Database
from stack.npm import Say, say_to_stderr


class EmbeddedStack:
    """Starts on entry, leaves no process behind on exit.

    Args:
        data_dir: keeps log and tables between runs; without it both are thrown away at the end.
        shards: how many databases.
        say: told, in a sentence, what is being fetched or started.
    """

    def __init__(
        self, data_dir: Path | None = None, shards: int = 1, say: Say = say_to_stderr
    ) -> None:
        self._kept = data_dir is not None
        self._folder = data_dir or Path(tempfile.mkdtemp(prefix="footfall-"))
        self.broker = Broker(self._folder / "kafka", say)
        self.databases = [
            Database(data_dir / f"shard-{number}" if data_dir else None, say)
            for number in range(shards)
        ]

    @property
    def kafka_bootstrap(self) -> str:
        """For FOOTFALL_KAFKA_BOOTSTRAP."""
        return self.broker.bootstrap

    @property
    def shards(self) -> list[str]:
        """DSNs, for FOOTFALL_SHARDS."""
        return [database.dsn for database in self.databases]

    def __enter__(self) -> Self:
        parts: list[Broker | Database] = [self.broker, *self.databases]
        try:
            with ThreadPoolExecutor(len(parts)) as starters:
                for started in [starters.submit(part.start) for part in parts]:
                    started.result()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End every part and throw away what was not to be kept."""
        self.broker.stop()
        for database in self.databases:
            database.stop()
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)
