"""Imports run one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "background": set(),
    "events": set(),
    "db": set(),
    "stack": set(),
    "page": {"stack"},
    "footfall_client": set(),
    "dashboards": {"events"},
    "ingester": {"background", "db", "events"},
    "api": {"background", "db", "events"},
    "reprocess": {"background", "db", "events", "ingester"},
    "footfall": {
        *("background", "db", "events", "stack"),
        *("ingester", "api", "page", "reprocess"),
    },
}


def imported_by(package: str) -> set[str]:
    """The project's packages that a package imports."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
    return found & set(MAY_IMPORT) - {package}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    assert imported_by(package) <= MAY_IMPORT[package]
