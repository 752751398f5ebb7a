"""An answer as it is kept: ready bytes, but for what it says of its freshness."""

import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Self

import msgspec

from api.query.changes import Stand

Body = dict[str, Any]
ENTRY_BYTES: Final = 1_600


@dataclass(slots=True)
class Kept:
    """An answer as bytes, but for what it says of itself."""

    head: bytes  # the body up to its meta
    meta: dict[str, Any]
    etag: str
    made_at: float  # of the machine's clock, which all its processes share
    stand: Stand | None

    @property
    def size(self) -> int:
        """Bytes of memory, with all that an entry of the cache has beside its body. `ENTRY_BYTES`
        was measured with tracemalloc; a test holds it against that."""
        return len(self.head) + sum(map(len, self.meta.get("warnings", ()))) + ENTRY_BYTES

    @classmethod
    def of(cls, body: Body, stand: Stand | None) -> Self:
        """From the body of an answer, which is used up."""
        meta = body.pop("meta")
        head = msgspec.json.encode(body)[:-1]
        # weak: the numbers are the same, what is said of their freshness may differ
        etag = f'W/"{blake2b(head, digest_size=12).hexdigest()}"'
        return cls(head, meta, etag, time.monotonic(), stand)

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the body."""
        return {
            "ETag": self.etag,
            "Cache-Control": "private, no-cache",
            "Footfall-Fresh-As-Of": self.meta["fresh_as_of"] or "",
            "Vary": "Accept, Authorization",
        }

    def is_known(self, if_none_match: str) -> bool:
        """Whether the asker has it already, by the header of that name."""
        known = [each.strip() for each in if_none_match.split(",")]
        return self.etag in known or known == ["*"]

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b'%b,"meta":%b}' % (self.head, msgspec.json.encode(self.meta))
