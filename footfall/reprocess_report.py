"""What `reprocess` shows: plans, progress, results and the history of a number."""

import json
from collections.abc import Sequence
from datetime import UTC, time
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from db.rollups import DAY
from db.runs import Done, Slice
from footfall.told import output, progress
from reprocess.plan import FileHolds, ReplayPlan

_RUNS: Final = """
SELECT run.run_id::text, run.state, run.window_start, run.window_end, run.merchant_id,
       run.logic_version, run.started_by, run.reason, run.started_at, run.ended_at,
       count(*) AS slices, count(*) FILTER (WHERE slice.state = 'done') AS done,
       count(*) FILTER (WHERE slice.state = 'held') AS held,
       coalesce(sum(slice.rows_changed), 0)::int8 AS rows_changed
  FROM reprocess_run AS run JOIN reprocess_slice AS slice USING (run_id)
 WHERE $1::uuid IS NULL OR run_id = $1 GROUP BY run.run_id ORDER BY run.started_at
"""
_SLICES: Final = """
SELECT kafka_partition, window_start, window_end, state, messages, rows_before, rows_after,
       rows_changed, columns_changed, logic_before, sums, detail
  FROM reprocess_slice WHERE run_id = $1 ORDER BY window_start, kafka_partition
"""
_HISTORY: Final = """
SELECT change.day, change.measure, change.before, change.after, slice.replaced_at,
       slice.logic_before, run.logic_version, run.started_by, run.reason, run.run_id::text
  FROM reprocess_change AS change
  JOIN reprocess_slice AS slice USING (run_id, kafka_partition, window_start)
  JOIN reprocess_run AS run ON run.run_id = slice.run_id
 WHERE change.merchant_id = $1 AND ($2::text IS NULL OR change.day = $2::text::date)
   AND slice.state IN ('replaced', 'done')
 ORDER BY slice.replaced_at, change.day, change.measure
"""


def show_plan(plan: ReplayPlan, console: Console = output) -> None:
    """For a person."""
    _show_files(plan, console)
    table = Table("window", "partition", "offsets", "messages", "rows there now")
    for each in plan.planned:
        part = each.slice
        ranges = f"{each.ranges[0][0]}..{each.ranges[-1][1]}" if each.ranges else "none"
        if len(each.ranges) > 1:
            ranges += f" in {len(each.ranges)} pieces"
        table.add_row(
            window_of(part), str(part.partition), ranges, f"{each.messages:,}", f"{each.rows:,}"
        )
    console.print(table)
    said = "measured on the last run" if plan.rate_is_measured else "a guess: no run has ended yet"
    console.print(
        f"{len(plan.planned)} slices, {plan.messages:,} messages to read, about "
        f"{plan.messages * plan.bytes_a_message / 1e6:,.1f} MB; up to {plan.hours} hours of "
        f"rollups to refresh; about {plan.seconds:,.0f} s at {plan.messages_per_s:,.0f} messages/s "
        f"({said})",
        highlight=False,
    )


def _show_files(plan: ReplayPlan, console: Console) -> None:
    if not plan.files:
        return
    table = Table("file", "kind", "messages", "of the window", "partitions", "event time")
    for each in plan.files:
        times = f"{each.first:%Y-%m-%d %H:%M} to {each.last:%Y-%m-%d %H:%M}" if each.first else ""
        table.add_row(
            each.path, each.kind, f"{each.messages:,}", f"{each.in_window:,}",
            ", ".join(map(str, each.partitions)), times,
        )  # fmt: skip
    console.print(table)


def plan_as_json(plan: ReplayPlan) -> dict[str, Any]:
    """For machines."""
    return {
        "from": plan.asked.start.isoformat(),
        "to": plan.asked.end.isoformat(),
        "messages": plan.messages,
        "bytes": round(plan.messages * plan.bytes_a_message),
        "rollup_hours": plan.hours,
        "seconds": round(plan.seconds, 1),
        "files": [_file_as_json(each) for each in plan.files],
        "slices": [
            {
                "shard": each.shard,
                "partition": each.slice.partition,
                "from": each.slice.start.isoformat(),
                "to": each.slice.end.isoformat(),
                "offsets": [list(each_range) for each_range in each.ranges],
                "messages": each.messages,
                "rows": each.rows,
            }
            for each in plan.planned
        ],
    }


def window_of(part: Slice) -> str:
    """A slice's window, short where it is a whole day."""
    start, end = part.start.astimezone(UTC), part.end.astimezone(UTC)
    if (start.time(), end - start) == (time(), DAY):
        return f"{start:%Y-%m-%d}"
    return f"{start:%Y-%m-%d %H:%M} to {end:%H:%M}"


def _file_as_json(each: FileHolds) -> dict[str, Any]:
    return {
        "path": each.path,
        "kind": each.kind,
        "messages": each.messages,
        "in_window": each.in_window,
        "partitions": list(each.partitions),
        "first": each.first and each.first.isoformat(),
        "last": each.last and each.last.isoformat(),
    }


class ProgressBar:
    """A bar on stderr with rate and time left."""

    def __init__(self, messages: int | None) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(show_speed=True),
            TimeRemainingColumn(),
            console=progress,
        )
        self._task = self._bar.add_task("reading", total=messages)
        self._replaced = self._refreshed = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def read(self, messages: int) -> None:
        """So many more were read."""
        self._bar.advance(self._task, messages)

    def replaced(self, part: Slice, done: Done) -> None:
        """A slice's rows are the new ones."""
        self._replaced += 1
        self._describe()

    def refreshed(self, part: Slice) -> None:
        """A slice's rollups have followed."""
        self._refreshed += 1
        self._describe()

    def _describe(self) -> None:
        said = f"{self._replaced} slices replaced, {self._refreshed} refreshed"
        self._bar.update(self._task, description=said)


async def show_result(pools: Sequence[asyncpg.Pool], run_id: str, *, as_json: bool = False) -> None:
    """Before and after, a measure and day."""
    slices = [row for pool in pools for row in await pool.fetch(_SLICES, run_id)]
    sums: dict[tuple[str, str], list[int]] = {}
    columns: dict[str, int] = {}
    for row in slices:
        for day, measures in json.loads(row["sums"] or "{}").items():
            for measure, (before, after) in measures.items():
                known = sums.setdefault((day, measure), [0, 0])
                known[0] += before
                known[1] += after
        for name, count in json.loads(row["columns_changed"] or "{}").items():
            columns[name] = columns.get(name, 0) + count
    changed = sum(row["rows_changed"] or 0 for row in slices)
    if as_json:
        told = {
            "run_id": run_id,
            "slices": len(slices),
            "done": sum(row["state"] == "done" for row in slices),
            "rows_changed": changed,
            "columns_changed": columns,
            "sums": [
                {"day": day, "measure": measure, "before": before, "after": after}
                for (day, measure), (before, after) in sorted(sums.items())
            ],
        }
        print(json.dumps(told))  # noqa: T201 - data for scripts
        return
    table = Table("day", "measure", "before", "after", "change")
    for (day, measure), (before, after) in sorted(sums.items()):
        table.add_row(day, measure, f"{before:,}", f"{after:,}", _change(before, after))
    output.print(table)
    states = ", ".join(
        f"{sum(row['state'] == state for row in slices)} {state}"
        for state in sorted({row["state"] for row in slices})
    )
    told_columns = ", ".join(f"{name} in {count:,}" for name, count in columns.items())
    output.print(
        f"slices: {states}; {changed:,} rows changed"
        + (f" ({told_columns})" if told_columns else ""),
        highlight=False,
    )


def _change(before: int, after: int) -> str:
    if before == after:
        return ""
    if before == 0:
        return "[yellow]new[/yellow]"
    return f"[yellow]{100 * (after - before) / before:+.2f} %[/yellow]"


async def show_status(pools: Sequence[asyncpg.Pool], run_id: str | None, *, as_json: bool) -> None:
    """Runs, or one run's slices."""
    found = [
        dict(row, shard=n)
        for n, pool in enumerate(pools)
        for row in await pool.fetch(_RUNS, run_id)
    ]
    if as_json:
        print(json.dumps(found, default=str))  # noqa: T201 - data for scripts
        return
    table = Table("run", "what it does, and how far it is")
    for row in found:
        merchant = (
            "all merchants" if row["merchant_id"] is None else f"merchant {row['merchant_id']}"
        )
        held = f", {row['held']} held back" if row["held"] else ""
        lines = [
            f"{row['state']}: {row['done']} of {row['slices']} slices{held}",
            f"{row['window_start']:%Y-%m-%d} to {row['window_end']:%Y-%m-%d}, {merchant}",
            f"shard {row['shard']}, logic version {row['logic_version']}",
            f"{row['rows_changed']:,} rows changed",
            f"by {row['started_by']}, {row['started_at']:%Y-%m-%d %H:%M}",
            *([escape(row["reason"])] if row["reason"] else []),
        ]
        table.add_row(row["run_id"], "\n".join(lines), end_section=True)
    output.print(table)
    if run_id is not None:
        await show_result(pools, run_id)


async def show_history(
    pools: Sequence[asyncpg.Pool], merchant: int, day: str | None, *, as_json: bool
) -> None:
    """What was done to a shop's numbers."""
    found = [dict(row) for pool in pools for row in await pool.fetch(_HISTORY, merchant, day)]
    if as_json:
        print(json.dumps(found, default=str))  # noqa: T201 - data for scripts
        return
    table = Table("day", "measure", "before", "after", "change", "when", "logic", "by", "reason")
    for row in found:
        table.add_row(
            str(row["day"]), row["measure"], f"{row['before']:,}", f"{row['after']:,}",
            _change(row["before"], row["after"]), f"{row['replaced_at']:%Y-%m-%d %H:%M}",
            f"{row['logic_before']} → {row['logic_version']}", row["started_by"], row["reason"],
        )  # fmt: skip
    output.print(table)
