"""What goes wrong, as RFC 9457 problems: a stable code and a sentence that says how to mend it."""

import difflib
from collections.abc import Iterable
from typing import Any

from litestar.plugins.problem_details import ProblemDetailsException


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> ProblemDetailsException:
    """A problem to raise. `more` becomes members of its body."""
    return ProblemDetailsException(
        status_code=status,
        type_=f"https://footfall.dev/problems/{code}",
        title=code.replace("_", " ").capitalize(),
        detail=detail,
        headers=headers,
        extra={"code": code, **more},
    )


def invalid(field: str, detail: str) -> ProblemDetailsException:
    """A question that cannot be understood."""
    return problem(400, "invalid_query", detail, field=field)


def unknown(kind: str, name: str, known: Iterable[str]) -> ProblemDetailsException:
    """A name that does not exist, with the nearest that do."""
    names = sorted(known)
    near = difflib.get_close_matches(name[:80], names, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    return problem(400, f"unknown_{kind}", f"There is no {kind} {name[:80]!r}: {hint}", field=kind)
