"""A headless Chromium: the machine's, else one that comes as an npm package, pinned by its lock."""

import os
import platform
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from stack.npm import PartMissingError, installed, node_and_npm, run, say_to_stderr

HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def found() -> tuple[str, dict[str, str]]:
    """The executable, and what its environment needs beside ours. Skips where there is none."""
    given = os.environ.get("FOOTFALL_TEST_CHROMIUM")
    for name in (given, *NAMES) if given else NAMES:
        path = shutil.which(name)
        if path:
            return path, {}
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("no Chromium: install one, or set FOOTFALL_TEST_CHROMIUM to its path")
    sources = [HERE / name for name in ("package.json", "package-lock.json", "unpack.mjs")]
    try:
        folder = installed("chromium", sources, say_to_stderr, "fetching Chromium …", _unpack)
    except PartMissingError as error:
        pytest.skip(f"no Chromium: install one, or mend what keeps npm from fetching it: {error}")
    return str(folder / "chromium"), {"LD_LIBRARY_PATH": str(folder / "lib")}


def _unpack(folder: Path) -> None:
    packed = folder / "node_modules" / "@sparticuz" / "chromium" / "bin"
    node, _ = node_and_npm()
    for name in ("chromium", "al2023.tar"):
        run([*node, "unpack.mjs", str(packed / f"{name}.br"), name], folder)
    (folder / "chromium").chmod(0o755)
    with tarfile.open(folder / "al2023.tar") as libraries:
        libraries.extractall(folder, filter="data")
    shutil.rmtree(folder / "node_modules")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Running until the block ends."""
    path, more = found()
    playwright: Playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=list(ARGUMENTS), env={**os.environ, **more}
        )
        yield browser
        browser.close()
