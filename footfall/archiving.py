"""`footfall archive`: what the log holds of a window, written to files and held against it."""

import json
from pathlib import Path

import asyncpg
import msgspec
from rich.table import Table

from db import history
from db.history import Offsets
from db.runs import Slice
from footfall.reprocess_report import ProgressBar
from footfall.reprocess_world import in_loop, open_log, opened, settings_of
from footfall.told import output
from reprocess.archive import Manifest, Verdict, Wanted, read_manifest, verify_file, write_archive
from reprocess.plan import Asked, check_topic, partitions_of
from reprocess.settings import ReprocessSettings
from reprocess.topic_log import RefusedError, TopicLog


def write(
    folder: Path,
    window: Asked | None,
    partition: int | None,
    offsets: Offsets | None,
    kind: str,
    *,
    as_json: bool,
) -> None:
    """Write a window's messages, or a range of offsets of one partition, and say what was."""
    settings = settings_of()
    written = _written(
        settings, folder, window=window, partition=partition, offsets=offsets, kind=kind
    )
    _show(in_loop(written), as_json=as_json)


def verify(folder: Path, *, as_json: bool) -> bool:
    """Read an archive back and compare it with its manifest and the log; whether all agree."""
    settings = settings_of()
    manifest, verdicts = in_loop(_verified(settings, folder))
    if as_json:
        told = [msgspec.to_builtins(each) for each in verdicts]
        print(json.dumps({"agrees": _agree(verdicts), "files": told}))  # noqa: T201 - data for scripts
        return _agree(verdicts)
    table = Table("file", "messages", "compared with the log", "verdict")
    for each in verdicts:
        said = "[green]the same[/green]" if each.wrong is None else f"[red]{each.wrong}[/red]"
        table.add_row(each.name, f"{each.messages:,}", f"{each.compared:,}", said)
    output.print(table)
    gone = sum(each.messages - each.compared for each in verdicts if each.wrong is None)
    if gone:
        output.print(
            f"{gone:,} messages have left the log of topic {manifest.topic}: those were held "
            "against the manifest alone",
            highlight=False,
        )
    return _agree(verdicts)


async def _written(
    settings: ReprocessSettings,
    folder: Path,
    *,
    window: Asked | None,
    partition: int | None,
    offsets: Offsets | None,
    kind: str,
) -> Manifest:
    log = TopicLog(settings)
    try:
        topic_id = log.topic_id()
        log.check_kept()
        if window is not None:
            async with opened(settings) as (pools, shards):
                wanted = await _of_window(log, pools, shards, topic_id, window)
        else:
            assert partition is not None  # noqa: S101 - the command line has seen to it
            assert offsets is not None  # noqa: S101
            low, high = log.bounds(partition)
            if offsets[0] < low or offsets[1] > high:
                raise RefusedError(f"partition {partition}: the log holds {low} to {high - 1}")
            wanted = [Wanted(partition, [offsets])]
    finally:
        log.close()
    if not wanted:
        raise RefusedError("no event of the window is in the ledger")
    total = sum(end - start for each in wanted for start, end in each.ranges)
    source = open_log(settings)
    try:
        with ProgressBar(total) as bar:
            return await write_archive(
                source,
                wanted,
                folder,
                origin=(settings.topic, topic_id),
                kind=kind,
                window=(window.start.isoformat(), window.end.isoformat()) if window else None,
                tick=bar.read,
            )
    finally:
        await source.close()


async def _of_window(
    log: TopicLog,
    pools: list[asyncpg.Pool],
    shards: dict[int, int],
    topic_id: str,
    window: Asked,
) -> list[Wanted]:
    """Each partition's ranges, as the ledger says; the log must hold them all."""
    partitions = partitions_of(window, shards)
    await check_topic(pools, shards, topic_id, partitions, window)
    wanted = []
    for each in partitions:
        times = (window.start, window.end)
        pool = pools[shards[each]]
        ranges = history.ranges_of(await history.lines_of(pool, topic_id, each, times, (0, 2**62)))
        if ranges:
            log.check_held(Slice(each, *times), ranges)
            wanted.append(Wanted(each, ranges))
    return wanted


async def _verified(settings: ReprocessSettings, folder: Path) -> tuple[Manifest, list[Verdict]]:
    manifest = read_manifest(folder)
    log = TopicLog(settings)
    try:
        same = manifest.topic == settings.topic and manifest.topic_id == log.topic_id()
        partitions = {each.partition for each in manifest.files}
        lows = {each: log.bounds(each)[0] if same else None for each in partitions}
    finally:
        log.close()
    source = open_log(settings)
    try:
        with ProgressBar(sum(each.messages for each in manifest.files)) as bar:
            return manifest, [
                await verify_file(
                    source, folder, manifest, each, low=lows[each.partition], tick=bar.read
                )
                for each in manifest.files
            ]
    finally:
        await source.close()


def _agree(verdicts: list[Verdict]) -> bool:
    return all(each.wrong is None for each in verdicts)


def _show(manifest: Manifest, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(manifest).decode())  # noqa: T201 - data for scripts
        return
    table = Table("file", "partition", "offsets", "messages", "bytes")
    for each in manifest.files:
        offsets = f"{each.first_offset}..{each.last_offset}"
        table.add_row(
            each.name, str(each.partition), offsets, f"{each.messages:,}", f"{each.bytes:,}"
        )
    output.print(table)
