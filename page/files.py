"""The files that browsers load: our own, and those made of npm packages.

A wheel brings the latter along. A checkout has them made at first need, from the versions that
package-lock.json pins, in the cache that the embedded stack uses.
"""

import shutil
from pathlib import Path
from typing import Final

from stack.npm import PartMissingError, Say, installed, node_and_npm, run

HERE: Final = Path(__file__).parent
FILES: Final = HERE / "files"
BUILT: Final = HERE / "built"  # in a wheel only
MADE: Final = ("uPlot.iife.min.js", "uPlot.min.css", "footfall.js")


def folders(say: Say) -> tuple[Path, ...]:
    """Where the files for browsers are. Without those made of npm packages the page has no chart
    and `footfall.js` is longer, which is no reason to answer nobody."""
    try:
        return (built(say), FILES, HERE)
    except PartMissingError as error:
        say(f"The page's chart is missing: {error}")
        return (FILES, HERE)


def built(say: Say) -> Path:
    """The folder with the files named in `MADE`.

    Raises:
        PartMissingError: they are not there yet, and npm cannot fetch their packages now.
    """
    if BUILT.exists():
        return BUILT
    sources = [HERE / "package.json", HERE / "package-lock.json", HERE / "footfall.js"]
    return installed("page", sources, say, "fetching the page's chart library …", _make) / "built"


def _make(folder: Path) -> None:
    """Gather what browsers need; footfall.js without what only its readers need."""
    made = folder / "built"
    made.mkdir()
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        shutil.copy(folder / "node_modules" / "uplot" / "dist" / name, made)
    node, _ = node_and_npm()
    terser = str(folder / "node_modules" / "terser" / "bin" / "terser")
    options = ["--ecma", "2020", "--compress", "--mangle", "--comments", "false"]
    run([*node, terser, "footfall.js", *options, "--output", "built/footfall.js"], folder)
    shutil.rmtree(folder / "node_modules")
