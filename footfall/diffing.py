"""`reprocess plan --diff`: what a run would change, from a sample."""

import json
from typing import Any

from rich.table import Table

from footfall.told import output
from reprocess.diff import Diff, Measured


def show_diff(found: Diff, *, as_json: bool) -> None:
    """Measures before and after, and the columns in which rows differ."""
    if as_json:
        print(json.dumps(_as_json(found)))  # noqa: T201 - data for scripts
        return
    table = Table("measure", "before", "after", "change", "of the window, about", "would be, about")
    for name, each in sorted(found.measures.items()):
        table.add_row(
            name, f"{each.before:,}", f"{each.after:,}", _change(each),
            f"{each.before_scaled:,.0f}", f"{each.after_scaled:,.0f}",
        )  # fmt: skip
    output.print(table)
    columns = ", ".join(f"{name} in {count:,}" for name, count in found.columns.items())
    output.print(
        f"{found.lines_read:,} of {found.lines:,} batches read, {found.messages_read:,} messages "
        f"for {found.messages:,}; {found.rows_differing:,} of {found.rows_read:,} rows differ, "
        f"about {found.rows_differing_scaled:,.0f} in all"
        + (f" ({columns})" if columns else "")
        + (f"; {found.rejects_differ:,} rejects differ" if found.rejects_differ else ""),
        highlight=False,
    )


def _change(each: Measured) -> str:
    if each.before == each.after:
        return ""
    change = each.change
    return "[yellow]new[/yellow]" if change is None else f"[yellow]{change:+.2%}[/yellow]"


def _as_json(found: Diff) -> dict[str, Any]:
    return {
        "batches": found.lines,
        "batches_read": found.lines_read,
        "messages": found.messages,
        "messages_read": found.messages_read,
        "rows_read": found.rows_read,
        "rows_differing": found.rows_differing,
        "rows_differing_scaled": round(found.rows_differing_scaled),
        "rejects_differing": found.rejects_differ,
        "columns": found.columns,
        "measures": [
            {
                "measure": name,
                "before": each.before,
                "after": each.after,
                "before_scaled": round(each.before_scaled),
                "after_scaled": round(each.after_scaled),
            }
            for name, each in sorted(found.measures.items())
        ],
    }
