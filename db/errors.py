"""What a database error means to us, by SQLSTATE and never by its text."""

import errno
from typing import Final, Literal

import asyncpg

Kind = Literal["transient", "data", "bug"]

# What a call to a shard may raise, whoever is at fault. asyncpg raises InternalClientError where a
# connection is lost between two of its steps.
TROUBLES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)

_TRANSIENT_STATES: Final = frozenset(
    {"40001", "40P01", "55P03", "25006", "57014", "25P03", "25P04"}
)
# 54 and XX too: only 22 and 23 say that a value is at fault, and only they may cost an event.
_TRANSIENT_CLASSES: Final = frozenset({"08", "53", "54", "57", "58", "XX"})
_DATA_CLASSES: Final = frozenset({"22", "23"})
_LOCAL: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


def of_this_machine(error: BaseException) -> bool:
    """Whether it is this machine's disk or its limits that are at fault, and no server."""
    return isinstance(error, OSError) and (error.filename is not None or error.errno in _LOCAL)


def kind_of(error: BaseException) -> Kind:
    """Whether to try again, to look for the row at fault, or to fall over."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state in _TRANSIENT_STATES or state[:2] in _TRANSIENT_CLASSES:
            return "transient"
        return "data" if state[:2] in _DATA_CLASSES else "bug"
    return "transient" if isinstance(error, TROUBLES) else "bug"
