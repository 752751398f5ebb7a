"""The visitors that registers stand for, as a function for every reader."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
