"""A migration's DDL stands in a `.sql` file beside it: frozen text, not today's table objects."""

from pathlib import Path

from alembic import op


def run_script(path: Path) -> None:
    """Execute the statements of `path`, each ending with a semicolon at a line's end."""
    connection = op.get_bind()
    for statement in path.read_text().split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)
