"""Acceptances per second by the spool while it grows, beside one fsynced file per request.

    python -m bench.spool [--seconds 20] [--clients 200] [--backlog 200000] [--folder DIR]

Each client appends one record of `--bytes` and waits until it is on disk. The first line begins
with an empty spool, the second with `--backlog` records in it, as after an outage of the broker:
a cost that grows with the backlog would show as a difference. The peer writes, fsyncs and renames a
file per request from a pool of threads. CPU is this process's.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from api.spool import Spool

console = Console()
Append = Callable[[], Awaitable[object]]


async def measure(append: Append, clients: int, seconds: float) -> tuple[float, float]:
    """Appends per second and microseconds of CPU for each."""
    end, done = time.monotonic() + seconds, 0

    async def client() -> None:
        nonlocal done
        while time.monotonic() < end:
            await append()
            done += 1

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.monotonic() - began), (time.process_time() - cpu) / done * 1e6


def one_file(folder: Path, number: int, content: bytes) -> None:
    """A file of its own, fsynced, under its name at once and whole."""
    path = folder / f"{number}.part"
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.rename(folder / str(number))


async def run(folder: Path, options: argparse.Namespace) -> None:
    """The table."""
    record = (b"17", b"x" * options.bytes)
    table = Table("what", "appends/s", "µs CPU each")
    spool = Spool.take(folder / "spool")

    def append() -> Awaitable[None]:
        return spool.append([record])

    for name in ("spool, empty", "spool, with a backlog"):
        rate, cpu = await measure(append, options.clients, options.seconds)
        table.add_row(name, f"{rate:,.0f}", f"{cpu:.0f}")
        for _ in range(0, options.backlog, 1_000):
            await spool.append([(b"18", record[1])] * 1_000)
    await spool.flush()
    held = spool.held
    spool.close()
    files, numbers = folder / "files", count()
    files.mkdir()

    def peer() -> Awaitable[None]:
        return asyncio.to_thread(one_file, files, next(numbers), record[1])

    rate, cpu = await measure(peer, options.clients, options.seconds)
    table.add_row("a file per request", f"{rate:,.0f}", f"{cpu:.0f}")
    console.print(table, f"{held / 1e6:,.0f} MB in the spool at the end")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--backlog", type=int, default=200_000, help="records")
    parser.add_argument("--bytes", type=int, default=300, help="of a record")
    parser.add_argument("--folder", type=Path, help="on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(run(Path(folder), options))


if __name__ == "__main__":
    main()
