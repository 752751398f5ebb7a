"""Lines that the columns would accept though the row-by-row check refuses them.

polars takes half of a surrogate pair for a NUL, and reads any depth of nesting, also in fields that
it skips. Finding such lines costs one scan of the joined batch; single lines are looked at only
where that hits, or where a line is long enough to be nested too deeply.
"""

import re
from itertools import compress, repeat
from operator import contains
from typing import Final

import numpy as np
import numpy.typing as npt

from events.nesting import MAX_DEPTH, is_too_deep

# A line in which every escaped surrogate is one of a pair. Possessive: it never backtracks.
_PAIRED: Final = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?![dD][89a-fA-F])|\\[^u])*+",
    re.DOTALL,
)

_DEEP_BYTES: Final = 2 * MAX_DEPTH  # each level takes two


def odd_lines(lines: list[bytes], joined: bytes) -> npt.NDArray[np.int64]:
    """The places of lines that hold half of a surrogate pair or are nested too deeply.

    Args:
        joined: all of them in one.
    """
    odd: set[int] = set()
    if b"\\" in joined:
        for surrogate in (rb"\ud", rb"\uD"):
            if surrogate in joined:
                found = compress(range(len(lines)), map(contains, lines, repeat(surrogate)))
                odd |= {at for at in found if not _PAIRED.fullmatch(lines[at])}
    if max(map(len, lines), default=0) > _DEEP_BYTES:
        long = [line for line in enumerate(lines) if len(line[1]) > _DEEP_BYTES]
        odd |= {at for at, line in long if is_too_deep(line)}
    return np.array(sorted(odd), np.int64)
