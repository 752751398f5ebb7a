"""The code blocks of the documents. What stands in a block marked `run` is run by the tests."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main

from footfall import verifying
from footfall.cli import app
from tests.processes import ROOT


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `run` where its first line says so."""

    file: str
    number: int
    language: str
    run: bool
    text: str

    def __str__(self) -> str:
        return f"{self.file} {self.number}"


def blocks(paths: list[Path]) -> Iterator[Block]:
    """Every fenced block of these files."""
    for path in paths:
        found = re.finditer(
            r"^```(\w+)( run)?\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL
        )
        for number, block in enumerate(found, 1):
            name = str(path.relative_to(ROOT))
            yield Block(name, number, block[1], bool(block[2]), block[3])


def commands_in(text: str, program: str) -> Iterator[list[str]]:
    """The words of each call of a program in a shell text, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines):
        found = re.match(rf"\s*(?:\w+=\S*\s+)*{program}\s+(.*)", line)
        if found:
            rest = "\n".join([found[1], *lines[number + 1 :]])
            yield list(_before_the_next(_words_of_the_first(rest)))


def _words_of_the_first(text: str) -> list[str]:
    """The words up to the first end of a line that is not within quotes."""
    lines = text.splitlines()
    for count in range(1, len(lines) + 1):
        try:
            return shlex.split("\n".join(lines[:count]), comments=True)
        except ValueError:  # a quote is open: the next line belongs to it
            continue
    raise AssertionError(f"a quote is never closed: {text}")


def _before_the_next(words: list[str]) -> Iterator[str]:
    for word in words:
        if word in {"||", "&&", "|", ">", "&"}:
            return
        yield word


def why_not_footfall(words: list[str]) -> str | None:
    """What is wrong with the words of a `footfall` command; None where nothing is."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    if rest[:1] == ["reprocess"]:
        command, rest = typer.main.get_command(verifying.app), rest[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        below = command.commands.get(name)
        if below is None:
            return f"there is no {name}"
        command = below
    known = {option for each in command.params for option in each.opts} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in known]
    return f"{command.name} does not know {unknown}" if unknown else None
