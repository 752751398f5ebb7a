"""`reprocess verify`: log, rows and rollups held against each other."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import asyncpg
import typer

from db import ledger_audit, order_audit, verifications
from db.ledger_audit import LedgerDiffers, LogPart
from db.orders import Order
from db.pools import borrowed
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
from footfall.reprocess_report import ProgressBar
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
from footfall.told import progress
from footfall.verify_report import show
from reprocess.cascade import RollupFailsError
from reprocess.pace import Pace
from reprocess.plan import ReplayPlan, partitions_of
from reprocess.run import begin, carry_out, new_run
from reprocess.settings import ReprocessSettings
from reprocess.topic_log import TopicLog
from reprocess.verify import Report, repair_rollups, verify_rollups, verify_slice
from reprocess.verify_ledger import repair_ledger
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
    """Recount a window from the log and compare log, ledger, rows, orders and every rollup; exit 1
    where they differ. `--repair` deletes no row whose message the log has. What was seen is kept,
    for the alerts."""
    settings = settings_of(rate)
    window = _window_of(start, end, days)
    plan = planned_of(settings, asked_of(*window, merchant, partition, None))
    report = in_loop(_verified(settings, plan, repair=False))
    in_loop(_note(settings, plan, report, repaired=False))
    if repair and not report.agrees:
        if not as_json:
            show(report, as_json=False)
        if any(report.ledger.values()):
            in_loop(_ledger_repaired(settings, plan, report))
            plan = planned_of(settings, plan.asked)
        in_loop(_verified(settings, plan, repair=True))
        report = in_loop(_verified(settings, plan, repair=False))
        in_loop(_note(settings, plan, report, repaired=True))
    show(report, as_json=as_json)
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
    async with opened(settings) as (pools, shards):
        try:
            with ProgressBar(plan.messages) as bar:
                logic = await logic_of(settings, pools[0])
                work = Work(run, logic, Pace(settings.messages_per_s, bar.read))
                for planned in plan.planned:
                    pool = pools[planned.shard]
                    report.slices.append(await verify_slice(pool, source, work, planned))
        finally:
            await source.close()
        report.ledger = await _ledgers(settings, pools, shards, plan, report)
        for partition in sorted(report.uncovered if repair else ()):
            progress.print(
                f"[red]partition {partition}: its rows are left as they are[/red], since the "
                "ledger does not cover its offsets once each",
                highlight=False,
            )
        wrong = [
            each
            for each in report.slices
            if not each.agrees and each.slice.partition not in report.uncovered
        ]
        if repair and wrong:
            chosen = {(each.slice.partition, each.slice.start) for each in wrong}
            left = (p for p in plan.planned if (p.slice.partition, p.slice.start) in chosen)
            part = replace(plan, planned=tuple(left))
            await begin(pools, run, part)
            with ProgressBar(part.messages) as bar:
                mending = Work(run, work.logic, Pace(None, bar.read), mend=True)
                await carry_out(pools, settings, mending, lambda: open_log(settings), bar)
        for shard, pool in enumerate(pools):
            report.orders[shard] = await _orders(pool, shard, shards, plan)
            if repair and report.orders[shard]:
                await order_audit.repair(pool, report.orders[shard])
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


async def _ledgers(
    settings: ReprocessSettings,
    pools: Sequence[asyncpg.Pool],
    shards: dict[int, int],
    plan: ReplayPlan,
    report: Report,
) -> dict[int, list[LedgerDiffers]]:
    """What is wrong with the ledgers, by shard. That a line counts a row that is lost is said of
    the row already."""
    found: dict[int, list[LedgerDiffers]] = {}
    log = TopicLog(settings)
    wrong = {each.slice.partition for each in report.slices if not each.agrees}
    try:
        for partition in partitions_of(plan.asked, shards):
            low, _ = await asyncio.to_thread(log.bounds, partition)
            part = LogPart(settings.topic, plan.topic_id, partition, low)
            window = (plan.asked.start, plan.asked.end)
            differs = await ledger_audit.audit(pools[shards[partition]], part, window)
            if partition in wrong or plan.asked.merchant_id is not None:
                differs = [each for each in differs if each.kind != "counts"]
            found.setdefault(shards[partition], []).extend(differs)
    finally:
        log.close()
    return found


async def _ledger_repaired(settings: ReprocessSettings, plan: ReplayPlan, report: Report) -> None:
    run = new_run(plan, settings, LOGIC_VERSION, reason="repair of what verify found")
    source = open_log(settings)
    try:
        async with opened(settings) as (pools, _):
            work = Work(run, await logic_of(settings, pools[0]), Pace())
            for shard, differs in report.ledger.items():
                for partition in sorted({each.partition for each in differs}):
                    here = [each for each in differs if each.partition == partition]
                    with progress.status(f"reading what the ledger of {partition} lacks …"):
                        await repair_ledger(pools[shard], source, work, here)
    finally:
        await source.close()


async def _orders(
    pool: asyncpg.Pool, shard: int, shards: dict[int, int], plan: ReplayPlan
) -> list[Order]:
    window, merchant = (plan.asked.start, plan.asked.end), plan.asked.merchant_id
    wrong: list[Order] = []
    for partition in partitions_of(plan.asked, shards):
        if shards[partition] == shard:
            async with borrowed(pool) as connection:
                wrong += await order_audit.audit(connection, partition, window, merchant)
    return wrong


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
