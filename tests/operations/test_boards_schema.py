"""The boards against the types that Grafana publishes, by the TypeScript compiler."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.write import BOARDS, FOLDER
from stack.npm import node_and_npm

HERE = Path(__file__).with_name("grafana")
Check = Callable[[str, str], str]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Compiles a board's JSON as a value of Grafana's type; what the compiler says of it."""
    folder = tmp_path_factory.mktemp("grafana")
    for file in HERE.iterdir():
        shutil.copy(file, folder)
    node, npm = node_and_npm()
    subprocess.run([*npm, "ci", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
    compiler = [*node, "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck"]
    compiler += ["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]

    def compiled(name: str, board: str) -> str:
        source = folder / f"{name}.ts"
        source.write_text(
            f'import type {{ Written }} from "./written";\nexport const it: Written = {board};\n'
        )
        done = subprocess.run(
            [*compiler, source.name], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.stdout

    return compiled


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_what_grafana_reads(check: Check, name: str) -> None:
    assert not check(name, (FOLDER / f"{name}.json").read_text())


def test_a_misspelt_board_would_be_found(check: Check) -> None:
    board = (FOLDER / "database.json").read_text()
    assert "graphToolTips" in check("unknown", board.replace("graphTooltip", "graphToolTips"))
    assert "absolutely" in check("enum", board.replace('"absolute"', '"absolutely"'))
