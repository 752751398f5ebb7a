"""Rollups whose sums of money saturate, and the queue of days to refresh."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
