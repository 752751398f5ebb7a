"""Rows held against what the log says: a hash of each side, and where they differ."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from db.standing import Rows
from events.identity import fingerprint
from reprocess.compare import Difference
from reprocess.sums import saturated_sum

_NULL: Final = "\x00"  # no text that the tables hold can contain it
_BETWEEN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Proof:
    """A set of rows: how many, and a hash that does not depend on their order."""

    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class RowsDiffer:
    """A merchant's hour in which rows are not what the log says; counts are of those rows alone."""

    merchant_id: int
    hour: datetime
    log_rows: int
    held_rows: int
    log_value: int
    held_value: int
    differing: int


def proof(events: pl.DataFrame) -> Proof:
    """The hashes of single rows, XXH3 of all that they hold, summed modulo 2^64."""
    whole = pl.col(pl.Datetime).dt.epoch("us"), pl.exclude(pl.Datetime)
    line = pl.concat_str(
        [part.cast(pl.String).fill_null(_NULL) for part in whole], separator=_BETWEEN
    )
    hashes = events.select(line.alias("line")).select(fingerprint("line")).to_series().to_numpy()
    return Proof(events.height, f"{int(np.add.reduce(hashes.view(np.uint64))):x}")


def rows_that_differ(difference: Difference) -> list[RowsDiffer]:
    """Where the rows of the log and of the table differ, in order."""
    held, log = _by_message(difference.old, "held"), _by_message(difference.new, "log")
    places = [_places(difference.new), _places(difference.old)]
    # A message's place is the log's, where it is there still.
    of_message = pl.concat(places).unique("log_offset", keep="first")
    return [RowsDiffer(*row) for row in _joined(of_message, held, log).iter_rows()]


def _places(rows: Rows) -> pl.DataFrame:
    """log_offset, merchant_id, hour; of items where their event is lost."""
    frames = (rows.events, rows.items)
    hour = pl.col("ts").dt.truncate("1h").alias("hour")
    return pl.concat([frame.select("log_offset", "merchant_id", hour) for frame in frames])


def _by_message(rows: Rows, side: str) -> pl.DataFrame:
    """log_offset, how many rows, their money."""
    return rows.events.group_by("log_offset").agg(
        pl.len().cast(pl.Int64).alias(f"{side}_rows"),
        saturated_sum(pl.col("value_minor")).alias(f"{side}_value"),
    )


def _joined(places: pl.DataFrame, held: pl.DataFrame, log: pl.DataFrame) -> pl.DataFrame:
    sides = ["log_rows", "held_rows", "log_value", "held_value"]
    return (
        places.join(held, on="log_offset", how="left")
        .join(log, on="log_offset", how="left")
        .group_by("merchant_id", "hour")
        .agg(saturated_sum(pl.col(sides).fill_null(0)), pl.len().cast(pl.Int64).alias("differing"))
        .sort("hour", "merchant_id")
        .select("merchant_id", "hour", *sides, "differing")
    )
