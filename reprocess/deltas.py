"""How a replacement changes what each line of the ledger counts."""

from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ingester.batch import Outcome

_KINDS: Final = ("events", "items", "rejects", "repeats")
Places = npt.NDArray[np.int64]


def places_of(frame: pl.DataFrame) -> Places:
    """The offsets of a frame's rows."""
    return frame.get_column("log_offset").to_numpy().astype(np.int64)


def not_among(offsets: Places, known: Places) -> Places:
    """The offsets that are none of the known ones."""
    return offsets[~np.isin(offsets, known)]


def per_line(lines: pl.DataFrame, offsets: Places) -> Places:
    """How many of the offsets each line covers; lines are in order and do not overlap."""
    if lines.is_empty():
        return np.empty(0, np.int64)
    starts, ends = lines["start_offset"].to_numpy(), lines["end_offset"].to_numpy()
    at = np.searchsorted(starts, offsets, side="right") - 1
    covered = (at >= 0) & (offsets < ends[np.maximum(at, 0)])
    return np.bincount(at[covered], minlength=lines.height).astype(np.int64)


def lines_that_differ(
    lines: pl.DataFrame, window: tuple[datetime, datetime], held: Places
) -> pl.DataFrame:
    """Lines that lie wholly within the window and hold another number of rows than they say."""
    found = lines.with_columns(pl.Series("held", per_line(lines, held), pl.Int64))
    whole = (pl.col("first_ts") >= window[0]) & (pl.col("last_ts") < window[1])
    return found.filter(whole & (pl.col("held") != pl.col("event_rows")))


def deltas_of(lines: pl.DataFrame, old: dict[str, Places], new: Outcome) -> pl.DataFrame:
    """What to add to each line that changes: `db.history.adjust_lines` says the columns.

    Args:
        old: offsets of the old events, items, rejects and repeats that were replaced.
        new: what came in their place.
    """
    made = {
        "events": places_of(new.rows),
        "items": places_of(new.items),
        "rejects": places_of(new.rejects),
        "repeats": places_of(new.repeated),
    }
    counts = {
        kind: pl.Series(kind, per_line(lines, made[kind]) - per_line(lines, old[kind]), pl.Int64)
        for kind in _KINDS
    }
    times = pl.concat([new.rows.select("log_offset", "ts"), new.rejects.select("log_offset", "ts")])
    bounds = (
        times.sort("log_offset")
        .join_asof(
            lines.select("start_offset", log_offset="start_offset").sort("log_offset"),
            on="log_offset",
        )
        .group_by("start_offset")
        .agg(pl.col("ts").min().alias("low"), pl.col("ts").max().alias("high"))
    )
    joined = lines.with_columns(**counts).join(
        bounds, on="start_offset", how="left", maintain_order="left"
    )
    differs = pl.any_horizontal(pl.col(kind) != 0 for kind in _KINDS)
    wider = (pl.col("low") < pl.col("first_ts")) | (pl.col("high") > pl.col("last_ts"))
    return joined.filter(differs | wider.fill_null(value=False))
