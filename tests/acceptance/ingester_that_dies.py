"""An ingester that kills itself, as kill -9 would, the Nth time that it reaches a named point."""

import asyncio
import os
import signal
import sys

from footfall.environment import Environment, configure_logging
from ingester.pipeline import Pipeline


def main(point: str, time: int) -> None:
    """Run until the point is reached for the `time`th time."""
    configure_logging()
    left = time

    def reach(reached: str) -> None:
        nonlocal left
        if reached == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = Environment.read().ingest_settings()
    pipeline = Pipeline(settings, ready=lambda: print("ready", flush=True), reach=reach)
    asyncio.run(pipeline.run())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
