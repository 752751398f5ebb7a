"""CPU seconds by part, from Linux' /proc: they tell what a question costs on a machine that others
use as well, where seconds that passed do not."""

import os
from pathlib import Path
from typing import Final

import psycopg

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


def of_tree(pid: int) -> float:
    """What a process, its children and theirs have used, those that ended among them."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has ended meanwhile
                continue
            children.setdefault(int(stat[1]), []).append(int(folder.name))
            used[int(folder.name)] = sum(map(int, stat[11:15])) * _TICK_S
    found, waiting = 0.0, [pid]
    while waiting:
        at = waiting.pop()
        found += used.get(at, 0.0)
        waiting += children.get(at, [])
    return found


def server_of(dsn: str) -> int | None:
    """The database server's first process, where it runs on this machine and may be seen."""
    with psycopg.connect(dsn) as connection:
        stat = _PROC / str(connection.info.backend_pid) / "stat"
        if not stat.exists() or "postgres" not in stat.read_text():
            return None
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
