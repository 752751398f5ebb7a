"""What a database error means to us, by SQLSTATE and never by its text."""

from typing import Final, Literal

import asyncpg

Kind = Literal["transient", "data", "bug"]

_TRANSIENT_STATES: Final = frozenset(
    {"40001", "40P01", "55P03", "25006", "57014", "25P03", "25P04"}
)
_TRANSIENT_CLASSES: Final = frozenset({"08", "53", "57", "58"})
_DATA_CLASSES: Final = frozenset({"22", "23", "54", "XX"})


def kind_of(error: BaseException) -> Kind:
    """Whether to try again, to look for the row at fault, or to fall over."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _TRANSIENT_STATES or state[:2] in _TRANSIENT_CLASSES:
            return "transient"
        return "data" if state[:2] in _DATA_CLASSES else "bug"
    if isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError)):
        return "transient"
    return "bug"
