"""The options that commands of `reprocess` share."""

from pathlib import Path
from typing import Annotated

import typer

_FROM = typer.Option("--from", help="First date or RFC 3339 instant of the window, UTC.")
_TO = typer.Option("--to", help="Where the window ends; this is not part of it.")
From = Annotated[str, _FROM]
To = Annotated[str, _TO]
FromOrDays = Annotated[str | None, _FROM]
ToOrDays = Annotated[str | None, _TO]
Days = Annotated[
    int | None,
    typer.Option(help="Instead of a window: so many UTC days, up to the last midnight.", min=1),
]
Merchant = Annotated[int | None, typer.Option(help="Only this shop's events.", min=1)]
Partition = Annotated[int | None, typer.Option(help="Only this partition of the topic.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of tables.")]
LogicVersion = Annotated[
    int | None,
    typer.Option(
        "--logic-version",
        help="Leave out days that this logic version, or a later one, has made already.",
    ),
]
Rate = Annotated[float | None, typer.Option(help="Messages a second at the most.", min=1)]
Parallel = Annotated[int, typer.Option(help="Slices at a time.", min=1, max=64)]
Misplaced = Annotated[
    float,
    typer.Option(
        help="For a bug in event time itself: how many hours it may have put events off.", min=0
    ),
]
Sources = Annotated[
    list[Path] | None,
    typer.Option(
        "--source",
        help="Files, or folders of files, to read instead of the log: an archive, or a service's "
        "own log (JSON lines, .gz, .zst).",
        metavar="FILE…",
    ),
]
MoreSources = Annotated[
    list[Path] | None, typer.Argument(help="More files of --source.", metavar="[FILE…]")
]
MaxChange = Annotated[
    str | None,
    typer.Option(help="Hold back a slice that changes any sum by more, as 20%.", metavar="PERCENT"),
]
