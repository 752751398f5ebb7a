"""One part's state, as `footfall doctor` says it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: in order or failing, why, and the command that helps."""

    part: str
    ok: bool
    cause: str
    command: str = ""
