"""The wheel, installed by itself, does its work far from the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT, begin

UV = ROOT / ".venv/tools/bin/uv"
RUNTIME = ROOT / "requirements.runtime.lock"

pytestmark = pytest.mark.skipif(
    not UV.exists() and shutil.which("uv") is None, reason="uv is missing: `make check` brings it"
)
Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = str(UV) if UV.exists() else "uv"
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the locked parts and the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    uv = str(UV) if UV.exists() else "uv"
    environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
    subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
    )
    for words in (("sync", "--require-hashes", RUNTIME), ("install", "--no-deps", wheel)):
        subprocess.run([uv, "pip", words[0], "--quiet", *words[1:]], env=environment, check=True)
    return folder


def test_all_that_is_needed_is_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in (
        ("db/migrations", "**/*.sql"),
        ("db/migrations", "**/*.py"),
        ("footfall/mappings", "*.json"),
        ("stack", "*.json"),
        ("stack/wire", "*.mjs"),
        ("stack/wire", "*.json"),
        ("dashboards/boards", "*.json"),
        ("dashboards/provisioning", "**/*.yaml"),
    ):
        wanted = {str(p.relative_to(ROOT)) for p in (ROOT / folder).glob(pattern)}
        wanted = {name for name in wanted if "node_modules" not in name}
        assert wanted
        assert wanted <= names
    assert not {name for name in names if name.startswith(("tests/", "bench/"))}


def test_it_starts_the_embedded_stack_and_migrates_it(installed: Path, tmp_path: Path) -> None:
    footfall = installed / "bin/footfall"
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("FOOTFALL", "PYTHON"))}
    stack = begin([str(footfall), "stack", "--json"], {"PYTHONPATH": ""}, cwd=tmp_path)
    try:
        stack.wait_for('{"FOOTFALL', 120)
        addresses = json.loads(next(line for line in stack.lines if line.startswith("{")))
        for words in (["migrate"], ["doctor"], ["merchants", "create", "Teapots"]):
            done = subprocess.run(
                [footfall, *words],
                cwd=tmp_path,
                env={**plain, **addresses},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    finally:
        stack.close()
