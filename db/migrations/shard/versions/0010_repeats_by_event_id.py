"""Retries are looked for by the hash of their event id."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
