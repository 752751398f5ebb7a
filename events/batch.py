"""The nouns of processing: what was consumed, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from events.limits import EARLIEST_LOG_MS, LATEST_LOG_MS

UTC_MICROS = pl.Datetime("us", "UTC")

REJECT_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "kafka_partition": pl.Int32,
    "log_offset": pl.Int64,
    "logged_at": UTC_MICROS,
    "merchant_id": pl.Int64,
    "event_id": pl.String,
    "reason": pl.String,
    "field": pl.String,
    "detail": pl.String,
    "raw": pl.Binary,
    "ts": UTC_MICROS,  # event time where it was read and kept its bounds, else log time
}


def bounded_log_time(logged_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Log times with those outside EARLIEST_LOG_MS..LATEST_LOG_MS moved to the nearer bound.

    A message at a bound has no credible log time: its event is measured from the bound, so it is
    a reject (`too_old`, `in_future`, or `missing` without a timestamp of its own).
    """
    if not logged_ms.size:
        return logged_ms
    if logged_ms.min() >= EARLIEST_LOG_MS and logged_ms.max() <= LATEST_LOG_MS:
        return logged_ms
    return np.clip(logged_ms, EARLIEST_LOG_MS, LATEST_LOG_MS)


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of the topic, as columns of one length."""

    values: list[bytes | None]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    logged_ms: npt.NDArray[np.int64]  # the broker's time of append, epoch milliseconds, bounded

    def __post_init__(self) -> None:
        object.__setattr__(self, "logged_ms", bounded_log_time(self.logged_ms))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(map(len, filter(None, self.values)))

    @classmethod
    def joined(cls, parts: Sequence["Messages"]) -> "Messages":
        """Several as one, in order; at least one is needed."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            list(chain.from_iterable(part.values for part in parts)),
            np.concatenate([part.partitions for part in parts]),
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.logged_ms for part in parts]),
        )

    def take(self, places: npt.NDArray[np.int64]) -> "Messages":
        """The messages at these places, in their order."""
        return Messages(
            [self.values[place] for place in places.tolist()],
            self.partitions[places],
            self.offsets[places],
            self.logged_ms[places],
        )


NO_MESSAGES: Final = Messages(
    [], np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64)
)


@dataclass(frozen=True, slots=True)
class Processed:
    """Rows for `events`, rows for `event_items`, and rejects: every message is in one of them."""

    rows: pl.DataFrame
    items: pl.DataFrame
    rejects: pl.DataFrame
