"""`--source FILE…`: which files are meant, and reading them before anything is planned."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from reprocess.archive import MANIFEST
from reprocess.file_plan import Files, within
from reprocess.plan import Asked
from reprocess.read_files import Told, read_files
from reprocess.settings import ReprocessSettings
from reprocess.spool import Spool
from reprocess.topic_log import RefusedError


def paths_of(given: Sequence[Path]) -> list[Path]:
    """Files as they are, and the files of folders, as absolute paths.

    Raises:
        RefusedError: there is no such file.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            found += sorted(each for each in path.iterdir() if _is_data(each))
        else:
            found.append(path)
    missing = [each for each in found if not each.is_file()]
    if missing or not found:
        raise RefusedError(f"there is no file {(missing or list(given))[0]}")
    return [each.resolve() for each in found]


def _is_data(path: Path) -> bool:
    return path.is_file() and path.name != MANIFEST and path.suffix != ".part"


@contextmanager
def read_into_spool(
    settings: ReprocessSettings,
    shards: dict[int, int],
    asked: Asked,
    paths: Sequence[Path],
    *,
    run: Callable[..., Told],
    console: Console,
) -> Iterator[Files]:
    """The files, read once and ready for a run; what they take on disk goes at the end.

    Args:
        run: carries out a coroutine, and says why where it is refused.
    """
    with Spool() as spool, console.status("reading files …") as status:
        so_far = 0

        def tick(messages: int) -> None:
            nonlocal so_far
            so_far += messages
            status.update(f"reading files … {so_far:,} messages")

        async def work() -> Told:
            wanted = within(settings, shards, asked)
            return await asyncio.to_thread(read_files, paths, spool, wanted, tick)

        told = run(work())
        status.stop()
        yield Files(spool, told)
