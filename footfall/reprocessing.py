"""`reprocess`: history made again from the log. A thin door: parse, plan, show the plan, run it."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import asyncpg
import typer

from db import runs
from events.transform import LOGIC_VERSION
from footfall.diffing import show_diff
from footfall.reprocess_options import (
    From,
    Json,
    LogicVersion,
    MaxChange,
    Merchant,
    Misplaced,
    MoreSources,
    Parallel,
    Partition,
    Rate,
    Sources,
    To,
)
from footfall.reprocess_report import (
    ProgressBar,
    plan_as_json,
    show_history,
    show_plan,
    show_result,
    show_status,
)
from footfall.reprocess_world import (
    asked_of,
    in_loop,
    logic_of,
    open_log,
    opened,
    planned_of,
    settings_of,
)
from footfall.sources import paths_of, read_into_spool
from footfall.told import progress
from reprocess.cascade import cascade
from reprocess.diff import Diff, diff
from reprocess.file_plan import Files
from reprocess.file_source import FileSource
from reprocess.pace import Pace
from reprocess.plan import Asked, ReplayPlan, window_of
from reprocess.run import Ended, begin, carry_out, new_run
from reprocess.settings import ReprocessSettings
from reprocess.source import Source
from reprocess.topic_log import RefusedError
from reprocess.work import Work

app = typer.Typer(
    help="Make history again from the log, while live events go on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("plan")
def plan_command(
    start: From,
    end: To,
    merchant: Merchant = None,
    partition: Partition = None,
    logic_version: LogicVersion = None,
    misplaced_hours: Misplaced = 0.0,
    source: Sources = None,
    more: MoreSources = None,
    what_if: Annotated[
        bool, typer.Option("--diff", help="Also how the numbers would differ, from a sample.")
    ] = False,
    sample: Annotated[
        str, typer.Option(help="How much of the ledger --diff reads.", metavar="PERCENT")
    ] = "1%",
    as_json: Json = False,
) -> None:
    """Show what a run would read, replace and refresh. Nothing is changed."""
    settings = settings_of()
    share = _share(sample)
    if share is None or not 0 < share <= 1:
        raise typer.BadParameter("--sample is more than 0% and at most 100%")
    if what_if and source:
        raise typer.BadParameter("--diff reads the log: leave out --source")
    asked = asked_of(start, end, merchant, partition, logic_version)
    asked = replace(asked, misplaced=timedelta(hours=misplaced_hours))
    with _reading(settings, asked, _given(source, more)) as files:
        planned = planned_of(settings, asked, files)
    if what_if:
        show_diff(in_loop(_differing(settings, planned, share)), as_json=as_json)
    elif as_json:
        print(json.dumps(plan_as_json(planned)))  # noqa: T201 - data for scripts
    else:
        show_plan(planned)


@app.command("run")
def run_command(
    start: From,
    end: To,
    merchant: Merchant = None,
    partition: Partition = None,
    logic_version: LogicVersion = None,
    max_change: MaxChange = None,
    misplaced_hours: Misplaced = 0.0,
    source: Sources = None,
    more: MoreSources = None,
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "",
    rate: Rate = None,
    parallel: Parallel = 2,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Replace a window by what today's logic makes of the log, slice by slice, and refresh."""
    settings = settings_of(rate, parallel)
    share = _share(max_change)
    asked = asked_of(start, end, merchant, partition, logic_version)
    asked = replace(asked, misplaced=timedelta(hours=misplaced_hours))
    paths = _given(source, more)
    with _reading(settings, asked, paths) as files:
        planned = planned_of(settings, asked, files)
        if not planned.planned:
            progress.print("Nothing to do: no event of the window is in the ledger.")
            return
        if not as_json:
            show_plan(planned, progress)
        if not yes and not typer.confirm("Run it?", err=True):
            raise typer.Exit(1)
        how = {
            "max_change": share,
            "reason": reason,
            "sources": [str(each.resolve()) for each in paths],
        }
        run = new_run(planned, settings, LOGIC_VERSION, **how)

        async def work() -> Ended:
            async with opened(settings) as (pools, _):
                await begin(pools, run, planned)
                return await _carry_out(pools, settings, run, planned.messages, files)

        progress.print(f"run {run.run_id}", highlight=False)
        with _interruptible(run.run_id):
            ended = in_loop(work())
    _conclude(settings, run.run_id, ended, as_json=as_json)


@app.command()
def resume(
    run_id: Annotated[str | None, typer.Argument(help="The run; the only unfinished one.")] = None,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Finish what was begun and leave out the rest.")
    ] = False,
    max_change: MaxChange = None,
    rate: Rate = None,
    parallel: Parallel = 2,
    as_json: Json = False,
) -> None:
    """Go on with a run that was interrupted or held back; running it twice changes nothing."""
    settings = settings_of(rate, parallel)
    share = _share(max_change)

    async def take_up() -> runs.Run:
        async with opened(settings) as (pools, _):
            chosen = run_id or await _only_unfinished(pools)
            found = [each for pool in pools if (each := await runs.find(pool, chosen))]
            if not found:
                raise RefusedError(f"there is no run {chosen}: `reprocess status` lists them")
            if found[0].logic_version != LOGIC_VERSION and not cancel:
                raise RefusedError(
                    f"run {chosen} began with logic version {found[0].logic_version}, this "
                    f"installation has {LOGIC_VERSION}: resume it with that version, or --cancel it"
                )
            for pool in pools:
                if cancel:
                    await runs.cancel(pool, chosen)
                if share is not None:
                    await runs.set_max_change(pool, chosen, share)
            return await _run_of(pools, chosen)

    async def work(run: runs.Run, files: Files | None) -> Ended:
        async with opened(settings) as (pools, _):
            return await _carry_out(pools, settings, run, None, files)

    run = in_loop(take_up())
    asked = Asked(run.window_start, run.window_end, run.merchant_id, misplaced=run.misplaced)
    sources = [] if cancel else [Path(each) for each in run.sources]  # rollups need no files
    with _reading(settings, asked, sources) as files, _interruptible(run.run_id):
        ended = in_loop(work(run, files))
    _conclude(settings, run.run_id, ended, as_json=as_json)


@app.command()
def status(
    run_id: Annotated[str | None, typer.Argument(help="One run in full.")] = None,
    merchant: Merchant = None,
    day: Annotated[str | None, typer.Option(help="The history of this day's numbers.")] = None,
    as_json: Json = False,
) -> None:
    """Show runs and their slices; with --merchant, what was done to its numbers, when and why."""
    settings = settings_of()

    async def work() -> None:
        async with opened(settings) as (pools, _):
            if merchant is not None:
                await show_history(pools, merchant, day, as_json=as_json)
            else:
                await show_status(pools, run_id, as_json=as_json)

    in_loop(work())


@app.command()
def refresh(start: From, end: To) -> None:
    """Make every rollup of a window again from the rows, on every shard."""
    settings = settings_of()
    window = window_of(start, end)

    async def work() -> int:
        async with opened(settings) as (pools, _):
            return sum([await cascade(pool, [window]) for pool in pools])

    with progress.status("refreshing …"):
        count = in_loop(work())
    progress.print(f"{count} refreshes", highlight=False)


def _given(source: list[Path] | None, more: list[Path] | None) -> list[Path]:
    if source is None and more:
        raise typer.BadParameter(f"unexpected argument {more[0]}")
    return [*(source or []), *(more or [])]


@contextmanager
def _reading(
    settings: ReprocessSettings, asked: Asked, given: list[Path]
) -> Iterator[Files | None]:
    """The files of --source, laid out to be read; None where the log is."""
    if not given:
        yield None
        return

    async def found() -> tuple[list[Path], dict[int, int]]:
        async with opened(settings) as (_, shards):
            return paths_of(given), shards

    paths, shards = in_loop(found())
    with read_into_spool(settings, shards, asked, paths, run=in_loop, console=progress) as files:
        yield files


@contextmanager
def _interruptible(run_id: str) -> Iterator[None]:
    """Ctrl-C ends the command and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        progress.print(
            f"\ninterrupted: what was replaced stays so. `footfall reprocess resume {run_id}` goes "
            "on with the rest, with `--cancel` it leaves the rest out",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


async def _only_unfinished(pools: list[asyncpg.Pool]) -> str:
    found = sorted({run for pool in pools for run in await runs.unfinished(pool)})
    if len(found) != 1:
        said = "there is no unfinished run" if not found else f"name one of {', '.join(found)}"
        raise RefusedError(said)
    return found[0]


async def _run_of(pools: list[asyncpg.Pool], run_id: str) -> runs.Run:
    for pool in pools:
        found = await runs.find(pool, run_id)
        if found is not None:
            return found
    raise RefusedError(f"there is no run {run_id}")


async def _differing(settings: ReprocessSettings, planned: ReplayPlan, share: float) -> Diff:
    run = new_run(planned, settings, LOGIC_VERSION)
    source = open_log(settings)
    try:
        async with opened(settings) as (pools, _):
            with ProgressBar(math.ceil(planned.messages * share)) as bar:
                logic = await logic_of(settings, pools[0])
                work = Work(run, logic, Pace(settings.messages_per_s, bar.read))
                return await diff(pools, source, work, planned, share)
    finally:
        await source.close()


async def _carry_out(
    pools: list[asyncpg.Pool],
    settings: ReprocessSettings,
    run: runs.Run,
    messages: int | None,
    files: Files | None,
) -> Ended:
    def open_source() -> Source:
        return FileSource(files.spool, files.told) if files else open_log(settings)

    with ProgressBar(messages) as bar:
        logic = await logic_of(settings, pools[0])
        work = Work(run, logic, Pace(settings.messages_per_s, bar.read))
        return await carry_out(pools, settings, work, open_source, bar)


def _conclude(settings: ReprocessSettings, run_id: str, ended: Ended, *, as_json: bool) -> None:
    async def work() -> None:
        async with opened(settings) as (pools, _):
            await show_result(pools, run_id, as_json=as_json)

    in_loop(work())
    for why in ended.held.values():
        progress.print(f"[red]held back:[/red] {why}", highlight=False)
    if ended.held:
        raise typer.Exit(1)


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError as error:
        raise typer.BadParameter("give a share in per cent, as 20%") from error
