"""`reprocess verify`: log, rows and rollups held against each other."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import asyncpg
import typer
from rich.markup import escape
from rich.table import Table

from db import verifications
from db.verifications import Look
from events.transform import LOGIC_VERSION
from footfall.reprocess_options import (
    Days,
    FromOrDays,
    Json,
    Merchant,
    Partition,
    Rate,
    ToOrDays,
)
from footfall.reprocess_report import ProgressBar, window_of
from footfall.reprocess_world import (
    asked_of,
    in_loop,
    logic_of,
    open_log,
    opened,
    planned_of,
    settings_of,
)
from footfall.reprocessing import app
from footfall.told import output, progress
from reprocess.cascade import RollupFailsError
from reprocess.pace import Pace
from reprocess.plan import ReplayPlan
from reprocess.run import begin, carry_out, new_run
from reprocess.settings import ReprocessSettings
from reprocess.verify import Report, repair_rollups, verify_rollups, verify_slice
from reprocess.work import Work

_MERCHANTS = """
SELECT array_agg(DISTINCT merchant_id) FROM events
 WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
"""

__all__ = ["app"]


@app.command()
def verify(
    start: FromOrDays = None,
    end: ToOrDays = None,
    days: Days = None,
    merchant: Merchant = None,
    partition: Partition = None,
    rate: Rate = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend exactly what differs, then look again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Recount a window from the log and compare log, rows and every rollup; exit 1 where they
    differ. What was seen is kept, for the alerts."""
    settings = settings_of(rate)
    window = _window_of(start, end, days)
    plan = planned_of(settings, asked_of(*window, merchant, partition, None))
    report = in_loop(_verified(settings, plan, repair=False))
    in_loop(_note(settings, plan, report, repaired=False))
    if repair and not report.agrees:
        if not as_json:
            _show(report, as_json=False)
        in_loop(_verified(settings, plan, repair=True))
        report = in_loop(_verified(settings, plan, repair=False))
        in_loop(_note(settings, plan, report, repaired=True))
    _show(report, as_json=as_json)
    if not report.agrees:
        raise typer.Exit(1)


def _window_of(start: str | None, end: str | None, days: int | None) -> tuple[str, str]:
    if start is not None and end is not None and days is None:
        return start, end
    if days is None or start is not None or end is not None:
        raise typer.BadParameter("give --from and --to, or --days alone")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - timedelta(days=days)).isoformat(), midnight.isoformat()


async def _note(
    settings: ReprocessSettings, plan: ReplayPlan, report: Report, *, repaired: bool
) -> None:
    """Keep what was seen in each shard that was looked at."""
    asked = plan.asked
    everywhere = asked.merchant_id is None and asked.partition is None
    async with opened(settings) as (pools, _):
        for shard, pool in enumerate(pools):
            slices = [each for each in report.slices if each.shard == shard]
            if not slices and not everywhere:
                continue
            look = Look(
                settings.topic,
                asked.start,
                asked.end,
                asked.merchant_id,
                asked.partition,
                len(slices),
                sum(each.messages for each in slices),
                report.differences(shard),
                repaired,
            )
            await verifications.note(pool, look)


async def _verified(settings: ReprocessSettings, plan: ReplayPlan, *, repair: bool) -> Report:
    """Look at everything; with `repair`, replace the slices and buckets that differ."""
    report = Report()
    run = new_run(plan, settings, LOGIC_VERSION, reason="repair of what verify found")
    source = open_log(settings)
    async with opened(settings) as (pools, _):
        try:
            with ProgressBar(plan.messages) as bar:
                logic = await logic_of(settings, pools[0])
                work = Work(run, logic, Pace(settings.messages_per_s, bar.read))
                for planned in plan.planned:
                    pool = pools[planned.shard]
                    report.slices.append(await verify_slice(pool, source, work, planned))
        finally:
            await source.close()
        wrong = [each for each in report.slices if not each.agrees]
        if repair and wrong:
            chosen = {(each.slice.partition, each.slice.start) for each in wrong}
            left = (p for p in plan.planned if (p.slice.partition, p.slice.start) in chosen)
            part = replace(plan, planned=tuple(left))
            await begin(pools, run, part)
            with ProgressBar(part.messages) as bar:
                mending = Work(run, work.logic, Pace(None, bar.read), mend=True)
                await carry_out(pools, settings, mending, lambda: open_log(settings), bar)
        for shard, pool in enumerate(pools):
            merchants = await _merchants(pool, shard, plan)
            if merchants == []:
                continue
            window = (plan.asked.start, plan.asked.end)
            with progress.status(f"comparing the rollups of shard {shard} with its rows …"):
                found = await verify_rollups(pool, window, merchants)
                report.rollups[shard], report.failing[shard] = found
            if repair and report.rollups[shard]:
                try:
                    await repair_rollups(pool, report.rollups[shard])
                except RollupFailsError as error:  # the next look says what still differs
                    progress.print(f"[red]failed:[/red] {error}", highlight=False, soft_wrap=True)
    return report


async def _merchants(pool: asyncpg.Pool, shard: int, plan: ReplayPlan) -> Sequence[int] | None:
    """Whose rollups are meant: None for everybody's, nobody's where the shard is not asked for."""
    asked = plan.asked
    here = [each for each in plan.planned if each.shard == shard]
    if asked.merchant_id is not None:
        return [asked.merchant_id] if here else []
    if asked.partition is not None:
        if not here:
            return []
        window = (asked.start, asked.end)
        return await pool.fetchval(_MERCHANTS, asked.partition, *window) or []
    return None


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_json(report), default=str))  # noqa: T201 - data for scripts
        return
    table = Table("window", "partition", "messages", "rows by the log", "rows held", "hash", "")
    for each in report.slices:
        part = each.slice
        said = "[green]equal[/green]" if each.agrees else "[red]DIFFERS[/red]"
        same = each.log.hash if each.log.hash == each.held.hash else "not the same"
        counts = (f"{each.messages:,}", f"{each.log.rows:,}", f"{each.held.rows:,}")
        table.add_row(window_of(part), str(part.partition), *counts, same, said)
    output.print(table)
    differing = [(each.slice.partition, row) for each in report.slices for row in each.rows]
    if differing:
        where = Table("partition", "merchant", "hour", "differing", "by the log", "held",
                      "value by the log", "value held")  # fmt: skip
        for partition, row in differing[:100]:
            told = (partition, row.merchant_id, f"{row.hour:%Y-%m-%d %H:00}", row.differing,
                    row.log_rows, row.held_rows, row.log_value, row.held_value)  # fmt: skip
            where.add_row(*(str(each) for each in told))
        output.print(where)
        if len(differing) > 100:
            output.print(f"… and {len(differing) - 100} more merchant hours")
    for each in report.slices:
        for wrong, what in ((each.rejects_differ, "rejects"), (each.repeats_differ, "repeats")):
            if wrong:
                day = f"{each.slice.start:%Y-%m-%d}"
                output.print(f"partition {each.slice.partition}, {day}: {what} differ")
    for shard, rollups in report.rollups.items():
        for name in sorted({each.rollup for each in rollups}):
            buckets = [each for each in rollups if each.rollup == name]
            first = buckets[0]
            output.print(
                f"[red]shard {shard}: {name} differs from its source in {len(buckets)} buckets"
                f"[/red], the first of merchant {first.merchant_id}, {first.bucket:%Y-%m-%d %H:%M}"
            )
    for shard, failing in report.failing.items():
        for fails in failing:
            output.print(
                f"[red]shard {shard}: {fails.rollup} could not be compared[/red]: "
                f"{escape(fails.error)}; see docs/runbooks/FootfallRollupFailing.md"
            )
    said = "log, rows and rollups are one" if report.agrees else "they differ"
    output.print(f"{sum(each.log.rows for each in report.slices):,} rows recounted: {said}")


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "agrees": report.agrees,
        "slices": [
            {
                "shard": each.shard,
                "partition": each.slice.partition,
                "from": each.slice.start,
                "to": each.slice.end,
                "messages": each.messages,
                "log_rows": each.log.rows,
                "held_rows": each.held.rows,
                "log_hash": each.log.hash,
                "held_hash": each.held.hash,
                "rejects_differ": each.rejects_differ,
                "repeats_differ": each.repeats_differ,
                "rows": [
                    {name: getattr(row, name) for name in row.__dataclass_fields__}
                    for row in each.rows
                ],
            }
            for each in report.slices
        ],
        "rollups": [
            {"shard": shard, "rollup": b.rollup, "merchant_id": b.merchant_id, "bucket": b.bucket}
            for shard, buckets in report.rollups.items()
            for b in buckets
        ],
        "rollups_failing": [
            {"shard": shard, "rollup": each.rollup, "error": each.error}
            for shard, failing in report.failing.items()
            for each in failing
        ],
    }
