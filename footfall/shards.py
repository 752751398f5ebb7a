"""`footfall shards`: where partitions live, and moving them. A thin door to `reprocess.move`."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from db import moves
from db.moves import Move, MoveError
from db.pools import REPLAY_SETTINGS, open_pools
from db.shard_map import shard_map
from footfall.environment import Environment, configure_logging
from footfall.loop import run
from footfall.reprocess_report import ProgressBar
from footfall.reprocess_world import logic_of
from footfall.told import output, progress
from reprocess.move import call_off, carry_out
from reprocess.mover import Mover, check_new
from reprocess.pace import Pace
from reprocess.settings import ReprocessSettings
from reprocess.topic_log import RefusedError, TopicLog

app = typer.Typer(
    help="Where partitions live, and moving them while live events go on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
T = TypeVar("T")
Work = Callable[[Mover], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Shown:
    """One partition, as `show` tells of it."""

    partition: int
    shard: int
    next_offset: int | None
    lag: int | None  # messages from there to the log's end
    rows: int  # by the ledger
    move: str | None


@app.command()
def show(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Show each partition's shard, how far it has been read, and whether it is being moved."""
    settings = _settings(None)
    found = _asyncio(_shown(settings))
    if as_json:
        print(json.dumps([asdict(each) for each in found]))  # noqa: T201 - data for scripts
        return
    table = Table("partition", "shard", "next offset", "lag", "rows", "move")
    for each in found:
        lag = "?" if each.lag is None else f"{each.lag:,}"
        offset = "unread" if each.next_offset is None else f"{each.next_offset:,}"
        table.add_row(
            str(each.partition), str(each.shard), offset, lag, f"{each.rows:,}", each.move or ""
        )
    output.print(table)


@app.command()
def move(
    partition: Annotated[int, typer.Option(help="Which partition of the topic.", min=0)],
    to: Annotated[int, typer.Option(help="Its new shard: a place in FOOTFALL_SHARDS.", min=0)],
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Call off a move that has not switched yet.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(help="Messages a second at the most.", min=1)
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            help="Seconds for which the old rows stay after the switch: longer than any question.",
            min=0,
        ),
    ] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Move a partition, or go on with a move that was interrupted."""
    settings = _settings(rate)
    if to >= len(settings.shards):
        raise typer.BadParameter(
            f"FOOTFALL_SHARDS names {len(settings.shards)} shards, 0 to {len(settings.shards) - 1}"
        )
    begun = _asyncio(_begun(settings, partition, to, new=not cancel, ask=not yes))
    if cancel:
        _asyncio(_with_mover(settings, Pace(), grace, lambda mover: call_off(mover, begun)))
        progress.print(f"called off: shard {begun.source} keeps partition {partition}")
        return
    with ProgressBar(None) as bar:
        pace = Pace(settings.messages_per_s, bar.read)
        _asyncio(_with_mover(settings, pace, grace, lambda mover: carry_out(mover, begun)))
    progress.print(f"partition {partition} lives in shard {to}", highlight=False)


async def _begun(
    settings: ReprocessSettings, partition: int, to: int, *, new: bool, ask: bool
) -> Move:
    """The move that is under way, or a new one."""
    async with _mover(settings, Pace(), 0) as mover:
        begun = (await moves.open_moves(mover.pools[0])).get(partition)
        if begun is None:
            if not new:
                raise MoveError(f"partition {partition} is not being moved")
            return await _begin(mover, partition, to, ask=ask)
    if begun.target != to:
        raise MoveError(
            f"partition {partition} is being moved from shard {begun.source} to {begun.target}: "
            "let that end first, or call it off by --cancel"
        )
    return begun


async def _with_mover(settings: ReprocessSettings, pace: Pace, grace: float, work: Work) -> None:
    async with _mover(settings, pace, grace) as mover:
        await work(mover)


async def _begin(mover: Mover, partition: int, to: int, *, ask: bool) -> Move:
    placed = await shard_map(mover.pools[0])
    if partition not in placed:
        raise MoveError(f"there is no partition {partition}: the map has {len(placed)}")
    source = placed[partition]
    if source >= len(mover.pools):
        raise MoveError(_unnamed(partition, source))
    if source == to:
        raise MoveError(f"partition {partition} lives in shard {to} already")
    checked = await check_new(mover, partition, source, to)
    progress.print(
        f"partition {partition}: {checked.covered.messages:,} messages from offset "
        f"{checked.first:,}, {checked.covered.event_rows:,} rows, from shard {source} to {to}",
        highlight=False,
    )
    if ask and not typer.confirm("Move it?", err=True):
        raise typer.Exit(1)
    return await moves.begin(mover.pools[0], partition, to)


async def _shown(settings: ReprocessSettings) -> list[Shown]:
    pools = await open_pools(settings.shards, REPLAY_SETTINGS, size=2)
    log = TopicLog(settings)
    try:
        placed, begun = await shard_map(pools[0]), await moves.open_moves(pools[0])
        found = []
        for partition, shard in sorted(placed.items()):
            if shard >= len(pools):
                raise MoveError(_unnamed(partition, shard))
            stands = await moves.standing(pools[shard], settings.topic, partition)
            held = await moves.covered(pools[shard], partition)
            offset = None if stands is None else stands.next_offset
            _, end = log.bounds(partition)
            lag = end if offset is None else max(0, end - offset)
            told = None
            if partition in begun:
                told = await _told(pools, settings.topic, begun[partition], offset or 0)
            found.append(Shown(partition, shard, offset, lag, held.event_rows, told))
    finally:
        log.close()
        for pool in pools:
            pool.terminate()
    return found


async def _told(pools: list[Any], topic: str, begun: Move, offset: int) -> str:
    """A move in a few words."""
    if begun.state != "copying":
        return f"{begun.state}, from {begun.source} to {begun.target}"
    if begun.target >= len(pools):
        return f"copying to {begun.target}, which FOOTFALL_SHARDS does not name"
    there = await moves.standing(pools[begun.target], topic, begun.partition)
    at = 0 if there is None else there.next_offset
    here = await moves.standing(pools[begun.source], topic, begun.partition)
    still = here is not None and here.moved_to is not None
    return f"copying to {begun.target}: {at:,} of {offset:,}" + (", live waits" if still else "")


def _unnamed(partition: int, shard: int) -> str:
    return f"partition {partition} lives in shard {shard}, which FOOTFALL_SHARDS does not name"


@asynccontextmanager
async def _mover(settings: ReprocessSettings, pace: Pace, grace: float) -> AsyncIterator[Mover]:
    pools = await open_pools(settings.shards, REPLAY_SETTINGS, size=4)
    try:
        yield Mover(
            settings,
            pools,
            await logic_of(settings, pools[0]),
            pace,
            grace,
            lambda text: progress.print(text, highlight=False),
        )
    finally:
        for pool in pools:
            pool.terminate()


def _settings(rate: float | None) -> ReprocessSettings:
    configure_logging()
    return Environment.read().reprocess_settings(rate, 1)


def _asyncio(work: Coroutine[Any, Any, T]) -> T:
    try:
        return run(work)
    except (MoveError, RefusedError) as error:
        progress.print(f"[red]refused:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
