"""How deep an event may be nested: the same for every reader, whatever its stack.

The contract's fields have three levels; unknown fields on the topic may have more. A parser that
recurses gives up earlier when its caller's stack is deep, so the limit is ours, far below that.
"""

import re
from typing import Final

import numpy as np

MAX_DEPTH: Final = 256

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_OTHER_BYTES: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def is_too_deep(raw: bytes) -> bool:
    """Whether objects and lists are nested deeper than the limit; linear in the length."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    brackets = np.frombuffer(_STRINGS.sub(b"", raw).translate(None, _OTHER_BYTES), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    depth = np.cumsum(np.where(opens, 1, -1))
    return bool(depth.size) and int(depth.max()) > MAX_DEPTH
