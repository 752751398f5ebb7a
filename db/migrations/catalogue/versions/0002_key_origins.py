"""The web origins from which a browser may send events with a key."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
