"""Which schema this version of Footfall is written for."""

from pathlib import Path

VERSIONS = Path(__file__).parent / "migrations"


def newest_revision(history: str) -> str:
    """The last migration of a history: the number its file's name begins with."""
    return max(path.name[:4] for path in (VERSIONS / history / "versions").glob("[0-9]*.py"))
