"""Which offsets are meant: single ones, or half-open ranges, in order and apart from each other."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from db.history import Offsets
from events.transform import Only
from reprocess.deltas import Places, places_of


def shared(some: Sequence[Offsets], others: Sequence[Offsets]) -> list[Offsets]:
    """What lies in both."""
    found: list[Offsets] = []
    at = 0
    for start, end in some:
        while at < len(others) and others[at][1] <= start:
            at += 1
        for first, last in others[at:]:
            if first >= end:
                break
            found.append((max(start, first), min(end, last)))
    return found


def without(some: Sequence[Offsets], others: Sequence[Offsets]) -> list[Offsets]:
    """What lies in the first and not in the others."""
    ends = [end for span in others for end in span]
    between = zip([-(2**63), *ends[1::2]], [*ends[::2], 2**63 - 1], strict=True)
    return shared(some, list(between))


def standing_at(offsets: Places) -> Only:
    """Which rows' `log_offset` is one of them."""
    return lambda frame: pl.Series(np.isin(places_of(frame), offsets))


def lying_in(ranges: Sequence[Offsets]) -> Only:
    """Which rows' `log_offset` lies in one of them."""
    starts, ends = np.array(ranges, np.int64).reshape(-1, 2).T

    def only(frame: pl.DataFrame) -> pl.Series:
        offsets = places_of(frame)
        at = np.searchsorted(starts, offsets, side="right") - 1
        return pl.Series((at >= 0) & (offsets < ends[np.maximum(at, 0)]))

    return only
