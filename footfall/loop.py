"""What every command runs in."""

import asyncio
import gc
import os
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

# A batch is tens of thousands of objects, none of them in a cycle. By default the collector looks
# at them again and again: a fifth of what a replay's CPU does, and a tenth of a second at a time in
# a worker of the API, which keeps hundreds of thousands.
NEW_OBJECTS: Final = 50_000
# The library of our columns gives memory back to the system half a second after it was freed, and
# batches of one size follow each other: a third of the page faults of a replay were for that.
KEPT_MS: Final = 10_000


def keep_memory() -> None:
    """What a batch frees, the next one takes: to be called before columns are first used."""
    os.environ.setdefault(
        "_RJEM_MALLOC_CONF", f"background_thread:true,dirty_decay_ms:{KEPT_MS},muzzy_decay_ms:-1"
    )


def collect_rarely() -> None:
    """Garbage in cycles is looked for rarely, and never again among what stands by now."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def run(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine comes to: in uvloop, which spends less of the CPU on a server's rows."""
    collect_rarely()
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.run(work)
    return uvloop.run(work)
