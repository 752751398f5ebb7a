"""`footfall shards move` that kills itself, as kill -9 would, when it reaches a named point."""

import functools
import os
import signal
import sys

from footfall import shards
from reprocess.mover import Mover


def main(point: str, partition: str, to: str) -> None:
    """Move until the point is reached."""

    def reach(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    shards.Mover = functools.partial(Mover, reach=reach)  # type: ignore[attr-defined,assignment]
    shards.app(["move", "--partition", partition, "--to", to, "--yes", "--grace", "0"])


if __name__ == "__main__":
    main(*sys.argv[1:])
