"""Rollups may be columns, as raw rows are."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
