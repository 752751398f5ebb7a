"""`python -m dashboards.write`: the boards as the JSON files that Grafana is provisioned with."""

import json
from pathlib import Path
from typing import Final

from dashboards import database, merchant, merchants, pipeline, revenue, sources
from dashboards.panels import Board, rendered

BOARDS: Final[dict[str, Board]] = {
    "merchants": merchants.BOARD,
    "merchant": merchant.BOARD,
    "revenue": revenue.BOARD,
    "sources": sources.BOARD,
    "pipeline": pipeline.BOARD,
    "database": database.BOARD,
}
FOLDER: Final = Path(__file__).parent / "boards"


def text_of(board: Board) -> str:
    """A board's file."""
    return json.dumps(rendered(board), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every file."""
    FOLDER.mkdir(exist_ok=True)
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(text_of(board))


if __name__ == "__main__":
    main()
