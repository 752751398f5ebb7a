"""What the commands of `reprocess` share: the world opened, a plan made, refusals said."""

import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import typer

from db import runs
from db.history import MovedAwayError
from db.installation import visitor_hash_key
from db.pools import REPLAY_SETTINGS, open_pools
from db.replacement import ReplacementError
from db.shard_map import shard_map
from events.enrich import Enrichment
from events.identity import VisitorHash
from events.transform import LOGIC_VERSION
from footfall.environment import Environment, configure_logging
from footfall.loop import run
from footfall.told import progress
from reprocess.cascade import RollupFailsError
from reprocess.file_plan import Files, plan_from_files
from reprocess.log_source import LogSource
from reprocess.plan import Asked, ReplayPlan, plan, window_of
from reprocess.recount import Logic
from reprocess.settings import ReprocessSettings
from reprocess.topic_log import RefusedError

T = TypeVar("T")


def settings_of(rate: float | None = None, parallel: int = 2) -> ReprocessSettings:
    """What the environment says."""
    configure_logging()
    return Environment.read().reprocess_settings(rate, parallel)


def asked_of(
    start: str, end: str, merchant: int | None, partition: int | None, logic_version: int | None
) -> Asked:
    """What a command's options ask for."""
    try:
        window = window_of(start, end)
    except RefusedError as error:
        raise typer.BadParameter(str(error)) from error
    if logic_version is not None and logic_version > LOGIC_VERSION:
        raise typer.BadParameter(
            f"this installation's logic version is {LOGIC_VERSION}: install the one with version "
            f"{logic_version} first"
        )
    return Asked(*window, merchant, partition, older_than_logic=logic_version)


def planned_of(settings: ReprocessSettings, asked: Asked, files: Files | None = None) -> ReplayPlan:
    """The plan of what is asked for, of the log or of files."""

    async def work() -> ReplayPlan:
        async with opened(settings) as (pools, shards):
            if files is not None:
                return await plan_from_files(settings, pools, shards, asked, files)
            return await plan(settings, pools, shards, asked)

    with progress.status("planning …"):
        return in_loop(work())


async def logic_of(settings: ReprocessSettings, catalogue: asyncpg.Pool) -> Logic:
    """Today's logic, with its lookups open and the installation's visitor hash.

    Raises:
        NotMigratedError: the installation has no visitor hash key yet.
    """
    visitor_hash = VisitorHash(await visitor_hash_key(catalogue))
    partitions = len(await shard_map(catalogue))
    return Logic(
        replace(settings.limits, partitions=partitions),
        Enrichment.open(visitor_hash, settings.country_file),
        timedelta(seconds=settings.dedupe_window_s),
    )


def open_log(settings: ReprocessSettings) -> LogSource:
    """A reader of the topic."""
    return LogSource(settings.bootstrap, settings.topic, settings.kafka_options)


@asynccontextmanager
async def opened(
    settings: ReprocessSettings,
) -> AsyncIterator[tuple[list[asyncpg.Pool], dict[int, int]]]:
    """A pool a shard, and the shard map."""
    pools = await open_pools(settings.shards, REPLAY_SETTINGS, size=2 * settings.parallel + 2)
    try:
        yield pools, await shard_map(pools[0])
    finally:
        for pool in pools:
            pool.terminate()


def in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what is refused is one clear line and exit code 1."""
    try:
        return run(work)
    except (RefusedError, ReplacementError, runs.OverlapError, MovedAwayError) as error:
        progress.print(f"[red]refused:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except RollupFailsError as error:
        progress.print(f"[red]failed:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
