"""What every slice of a run shares."""

from collections.abc import Callable
from dataclasses import dataclass

from db.runs import Run
from reprocess.pace import Pace
from reprocess.recount import Logic

Reach = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Work:
    """A run, the logic it applies and how fast it may go.

    `mend` lets it replace rows that are not those of the ledger. `reach` is told the names of the
    points that a slice passes: tests end the process there.
    """

    run: Run
    logic: Logic
    pace: Pace
    mend: bool = False
    reach: Reach = lambda _: None
