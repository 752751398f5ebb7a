"""Every example for merchants, analysts and a first operator is run, and nothing there is goes
without a word."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from api.query.catalogue import DIMENSIONS, INTERVALS, METRICS
from tests.processes import ROOT
from tests.service import Service, page_view

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# What needs one service alone. The pages for operators of servers mark what can be run.
RUN = [DOCS / f"{name}.md" for name in ("analyst", "api", "definitions", "developer", "operator")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
# A refusal fails the example, which must not have to say so itself.
PRELUDE = 'set -euo pipefail; curl() { command curl --fail-with-body -sS "$@"; echo; }\n'


@dataclass(frozen=True, slots=True)
class Example:
    """A block of a page, by the place where it starts."""

    page: str
    line: int
    language: str
    text: str


def examples() -> list[Example]:
    """All that can be run, in order."""
    return [
        Example(page.name, text[: block.start()].count("\n") + 1, block[1], block[2])
        for page in RUN
        for text in [page.read_text()]
        for block in BLOCK.finditer(text)
        if block[1] in ("sh", "python", "sql")
    ]


@pytest.fixture(scope="module")
def shop_of_docs(service: Service) -> int:
    """A shop that had a visitor."""
    shop = service.merchant()
    service.send(shop, page_view(country="DE"))
    service.wait_for_events(shop, 1)
    return shop


@pytest.mark.parametrize("example", examples(), ids=lambda e: f"{e.page}:{e.line}")
def test_an_example_works(
    service: Service, shop_of_docs: int, example: Example, tmp_path: Path
) -> None:
    if example.language == "sql":
        for dsn in service.world.shards:
            with psycopg.connect(dsn) as connection:
                connection.execute("SET LOCAL ROLE footfall_analyst")
                connection.execute(example.text.encode())
        return
    if example.language == "sh" and shutil.which("curl") is None:
        pytest.skip("no curl: install it")
    command = {
        "sh": ["bash", "-c", PRELUDE + example.text],
        "python": [sys.executable, "-c", example.text],
    }
    done = subprocess.run(
        command[example.language],
        cwd=tmp_path,
        env={
            **service.environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "FOOTFALL_URL": service.url,
            "MERCHANT": str(shop_of_docs),
            "KEY": service.key(shop_of_docs),
            "ADMIN_KEY": service.admin,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert '"rejected":[{' not in done.stdout


def test_every_endpoint_has_its_example(service: Service) -> None:
    told = (DOCS / "api.md").read_text()
    described = httpx.get(f"{service.url}/schema/openapi.json").json()["paths"]
    for path, methods in described.items():
        for method in methods:
            heading = rf"^### .*\b{method.upper()}\b.*{re.escape(path)}(?![\w/{{])"
            assert re.search(heading, told, re.MULTILINE), f"{method} {path} is not in api.md"


def test_every_metric_and_dimension_is_defined() -> None:
    told = (DOCS / "definitions.md").read_text()
    for metric in METRICS.values():
        (row,) = re.findall(rf"^\| `{metric.name}` \|.*\| (yes|no) \|$", told, re.MULTILINE)
        assert (row == "yes") == metric.adds_up, metric.name
    for name in [*DIMENSIONS, *(f"time:{each}" for each in INTERVALS)]:
        assert f"`{name}`" in told, name


def test_every_link_leads_somewhere() -> None:
    for page in (*PAGES, ROOT / "README.md"):
        for name, anchor in LINK.findall(page.read_text()):
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name}: {name}"
            if anchor:
                text = target.read_text()
                titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
                anchors = {
                    re.sub(r"[^\w -]", "", t).strip().lower().replace(" ", "-") for t in titles
                }
                assert anchor in anchors or f'id="{anchor}"' in text, f"{page.name}: #{anchor}"
