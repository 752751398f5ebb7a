"""Whether an ingester gets on: what holds it up, and no time-out ended, is seen here."""

import faulthandler
import sys
import time
from collections.abc import Sequence
from typing import Final

from ingester import telemetry
from ingester.consume import TopicReader
from ingester.lane import Lane
from ingester.load import BATCH_WITHIN_S

STALLED_S: Final = BATCH_WITHIN_S + 20  # a transaction's own time-out comes first
SILENT_S: Final = 240.0  # taking up partitions may take minutes; the group gives us five


class HaltedError(Exception):
    """This process must not go on; the sentence says why and what to do."""


class StalledError(Exception):
    """A batch waits and nothing is done."""


def check_progress(reader: TopicReader, lanes: Sequence[Lane]) -> None:
    """Tell for how long each lane has stood still, and when the log was last asked.

    Raises:
        StalledError: a lane stands still; it fails the task that asks, and with it the health.
        HaltedError: the consumer does, and another process must take its partitions.
    """
    telemetry.POLLED.set(reader.polled_at)
    for lane in lanes:
        telemetry.STALLED.labels(lane.shard).set(lane.stalled_s)
    silent_s = time.time() - reader.polled_at
    if silent_s > SILENT_S:
        faulthandler.dump_traceback(sys.stderr)
        raise HaltedError(f"the consumer has not asked for messages for {silent_s:.0f} seconds")
    for lane in lanes:
        if lane.stalled_s > STALLED_S:
            raise StalledError(
                f"a batch of shard {lane.shard} has stood still for {lane.stalled_s:.0f} seconds"
            )
