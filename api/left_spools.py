"""Spools without a process: of a worker that was killed, of more workers than now, of another port.
Their events were accepted, so any running worker drains them."""

import fcntl
from pathlib import Path
from typing import Final

from api.spool import Spool, segments_in

LOOK_EVERY_S: Final = 5.0


def spools_below(root: Path) -> list[Path]:
    """The spools of all ports of a data directory."""
    return sorted(each.parent for each in root.glob("*/*/lock"))


def left_bytes(root: Path) -> int:
    """Bytes of events in spools that no living process holds."""
    return sum(
        segment.stat().st_size
        for directory in spools_below(root)
        if _is_free(directory)
        for segment in segments_in(directory)
    )


def take_one(root: Path) -> Spool | None:
    """One of them that holds events, now ours."""
    for directory in spools_below(root):
        spool = Spool.left_in(directory)
        if spool is not None:
            return spool
    return None


def _is_free(directory: Path) -> bool:
    with (directory / "lock").open("rb") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
