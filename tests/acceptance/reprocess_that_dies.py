"""A run of reprocessing that kills itself, as kill -9 would, when it reaches a named point."""

import asyncio
import os
import signal
import sys

from events.transform import LOGIC_VERSION
from footfall.environment import Environment, configure_logging
from footfall.reprocess_report import ProgressBar
from footfall.reprocess_world import logic_of, open_log, opened
from reprocess.pace import Pace
from reprocess.plan import Asked, plan, window_of
from reprocess.run import begin, carry_out, new_run
from reprocess.work import Work


async def run(point: str, start: str, end: str) -> None:
    """A whole run of a window, if nothing kills it."""

    def reach(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Environment.read().reprocess_settings(None, 2)
    async with opened(settings) as (pools, shards):
        planned = await plan(settings, pools, shards, Asked(*window_of(start, end)))
        wanted = new_run(planned, settings, LOGIC_VERSION)
        await begin(pools, wanted, planned)
        reach("after_begin")
        with ProgressBar(planned.messages) as bar:
            work = Work(wanted, await logic_of(settings, pools[0]), Pace(), reach=reach)
            await carry_out(pools, settings, work, lambda: open_log(settings), bar)


if __name__ == "__main__":
    configure_logging()
    asyncio.run(run(*sys.argv[1:]))
