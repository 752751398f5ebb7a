"""The documents' commands: those marked `run` are run, the others are held against the code."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from footfall.environment import Environment
from tests.conftest import World
from tests.history import own_world
from tests.operations.documents import Block, blocks, commands_in, why_not_footfall
from tests.processes import ROOT

BLOCKS = list(blocks(sorted((ROOT / "docs").rglob("*.md"))))
SHELL = [block for block in BLOCKS if block.language == "sh"]
SQL_TO_RUN = [block for block in BLOCKS if block.language == "sql" and block.run]


@pytest.fixture(scope="module")
def fresh_world(bootstrap: str) -> Iterator[World]:
    """Shards that know of one topic alone, as an operator's do."""
    with own_world(bootstrap, f"documents.{uuid.uuid4().hex[:8]}", shards=2) as world:
        yield world


@pytest.mark.parametrize("block", [b for b in SHELL if b.run], ids=str)
def test_what_is_marked_so_runs(fresh_world: World, tmp_path: Path, block: Block) -> None:
    environment = {
        **os.environ,
        **fresh_world.environment,
        "FOOTFALL_DATA_DIR": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_footfall_command_exists(block: Block) -> None:
    for words in commands_in(block.text, "footfall"):
        assert why_not_footfall(words) is None
    read = set(re.findall(r'"(FOOTFALL_\w+)"', (ROOT / "footfall/environment.py").read_text()))
    for name in re.findall(r"\b(FOOTFALL_\w+)=", block.text):
        assert name in read or name.startswith(("FOOTFALL_KAFKA_OPTION_", "FOOTFALL_EDGE_")), name


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_compose_command_names_services_that_exist(block: Block) -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    known = set(compose["services"]) | {"core", "observability", "edge"}
    for words in commands_in(block.text, "docker"):
        assert words[0] == "compose"
        named = [w for w in words if re.fullmatch(r"(ingester|api|shard)-\w+|kafka|migrate", w)]
        assert set(named) <= known, named


@pytest.mark.parametrize("block", SQL_TO_RUN, ids=str)
def test_a_statement_of_the_documents_runs(shard: str, block: Block) -> None:
    with psycopg.connect(shard) as connection:
        connection.execute(block.text.rstrip().removesuffix(";"))
        connection.rollback()


def test_every_variable_is_explained() -> None:
    read = set(re.findall(r'"(FOOTFALL_\w+)"', (ROOT / "footfall/environment.py").read_text()))
    text = "\n".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    assert Environment.read({}).topic == "footfall.events"
    assert not {name for name in read if name.rstrip("_") not in text}
