"""Which purchase of an order counts: by who sent it, and whether it was a bot."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
