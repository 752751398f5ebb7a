"""How what messages become today differs from what stands: columns beside columns."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from db.rollups import HOUR
from db.runs import Changes
from db.standing import Rows
from db.windows import Window, merged
from reprocess.deltas import Places, places_of
from reprocess.ranges import standing_at


@dataclass(frozen=True, slots=True)
class Difference:
    """The old rows and the new ones of the messages that differ, and what that comes to."""

    old: Rows
    new: Rows
    changes: Changes
    items: Places  # of the messages whose items differ

    @property
    def gone(self) -> Rows:
        """What is to go: items that are alike stay, though their event is another."""
        return Rows(self.old.events, self.old.items.filter(standing_at(self.items)(self.old.items)))

    @property
    def made(self) -> Rows:
        """What comes in the place of what goes."""
        return Rows(self.new.events, self.new.items.filter(standing_at(self.items)(self.new.items)))


def compare(old: Rows, new: Rows) -> Difference:
    """What differs between two sides in the log's order. What stands twice differs, for it is
    wrong though it be like its new row each time."""
    events, columns = _differing(old.events, new.events, ["log_offset"])
    items, _ = _differing(old.items, new.items, ["log_offset", "item_index"])
    changed = pl.Series(np.concatenate([events, items])).unique().to_numpy()
    gone, made = _of(old, changed), _of(new, changed)
    frames = (gone.events, gone.items, made.events, made.items)
    hours = _hours(pl.concat([frame["ts"] for frame in frames]))
    counts = (old.events.height, new.events.height, int(changed.size))
    return Difference(gone, made, Changes(*counts, columns, hours), items)


def _differing(
    old: pl.DataFrame, new: pl.DataFrame, key: list[str]
) -> tuple[Places, dict[str, int]]:
    """Offsets of the rows that differ, came, went or stand twice; for each column, in how many of
    those that stand on both sides it differs."""
    twice = old.filter(pl.struct(key).is_duplicated()) if _any_twice(old, key) else old.clear()
    once = old.unique(key, keep="first", maintain_order=True) if twice.height else old
    if once.select(key).equals(new.select(key)):
        both, beside, alone = once, new, []
    else:
        both = once.join(new, on=key, how="semi", maintain_order="left")
        beside = new.join(once, on=key, how="semi", maintain_order="left")
        gone, come = once.join(new, on=key, how="anti"), new.join(once, on=key, how="anti")
        alone = [places_of(gone), places_of(come)]
    differs = np.zeros(both.height, np.bool_)
    columns: dict[str, int] = {}
    for name in both.columns:
        here = both[name].ne_missing(beside[name]).to_numpy()
        if count := int(here.sum()):
            columns[name] = count
            differs |= here
    offsets = [places_of(both)[differs], *alone, places_of(twice)]
    return np.concatenate(offsets), columns


def _any_twice(frame: pl.DataFrame, key: list[str]) -> bool:
    """In the log's order, equal keys are neighbours."""
    same = [frame[name] == frame[name].shift(1) for name in key]
    return bool(pl.DataFrame(same).select(pl.all_horizontal(pl.all()).any()).item())


def _of(rows: Rows, offsets: Places) -> Rows:
    if offsets.size == 0:
        return Rows(rows.events.clear(), rows.items.clear())
    these = standing_at(offsets)
    return Rows(*(frame.filter(these(frame)) for frame in (rows.events, rows.items)))


def _hours(times: pl.Series) -> list[Window]:
    """The UTC hours that hold any of these instants, those that touch as one."""
    return merged((start, start + HOUR) for start in times.dt.truncate("1h").unique())
