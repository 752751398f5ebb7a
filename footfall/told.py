"""What commands tell: what was asked for to standard output, all else beside it."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

progress = Console(stderr=True)
output = Console()
Json = Annotated[bool, typer.Option("--json", help="One line of JSON instead of a table.")]


def tell(made: dict[str, Any], *, as_json: bool) -> None:
    """Names and values: one line of JSON, or a table."""
    if as_json:
        print(json.dumps(made))  # noqa: T201 - data for scripts
        return
    table = Table(show_header=False)
    for name, value in made.items():
        table.add_row(name, str(value))
    output.print(table)
