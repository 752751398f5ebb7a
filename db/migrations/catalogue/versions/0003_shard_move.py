"""Moves of partitions from one shard to another."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
