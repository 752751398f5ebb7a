"""What a merchant lets public keys send."""

from pathlib import Path

from db.migrations.script import run_script

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_script(Path(__file__).with_suffix(".sql"))
