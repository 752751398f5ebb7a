"""What `reprocess verify` found, for people and for scripts."""

import json
from typing import Any

from rich.markup import escape
from rich.table import Table

from footfall.reprocess_report import window_of
from footfall.told import output
from reprocess.verify import Report


def show(report: Report, *, as_json: bool) -> None:
    """Print a report: tables and sentences, or one line of JSON."""
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
    for say in (_show_beside_rows, _show_ledger, _show_rollups):
        say(report)
    said = "log, rows and rollups are one" if report.agrees else "they differ"
    output.print(f"{sum(each.log.rows for each in report.slices):,} rows recounted: {said}")


def _show_beside_rows(report: Report) -> None:
    for each in report.slices:
        for wrong, what in ((each.rejects_differ, "rejects"), (each.repeats_differ, "repeats")):
            if wrong:
                day = f"{each.slice.start:%Y-%m-%d}"
                output.print(f"partition {each.slice.partition}, {day}: {what} differ")


def _show_ledger(report: Report) -> None:
    for shard, ledger in report.ledger.items():
        for line in ledger:
            output.print(
                f"[red]shard {shard}: the ledger of partition {line.partition} differs[/red], "
                f"offsets {line.start} to {line.end - 1}: {line.kind}, {line.detail}"
            )
    for shard, orders in report.orders.items():
        if orders:
            merchant, order = orders[0]
            output.print(
                f"[red]shard {shard}: of {len(orders)} orders not exactly one purchase counts"
                f"[/red], the first of merchant {merchant}, order {escape(order)}"
            )


def _show_rollups(report: Report) -> None:
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
        "ledger": [
            {"shard": shard, **{name: getattr(each, name) for name in each.__dataclass_fields__}}
            for shard, ledger in report.ledger.items()
            for each in ledger
        ],
        "orders": [
            {"shard": shard, "merchant_id": merchant, "order_id": order}
            for shard, orders in report.orders.items()
            for merchant, order in orders
        ],
        "rollups_failing": [
            {"shard": shard, "rollup": each.rollup, "error": each.error}
            for shard, failing in report.failing.items()
            for each in failing
        ],
    }
