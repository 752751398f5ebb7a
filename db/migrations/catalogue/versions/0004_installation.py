"""The secret of the installation, and the audit trail of keys."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
