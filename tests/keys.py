"""The visitor hash key of all tests, so that estimates of visitors are the same in each run."""

from typing import Final

from events.identity import VisitorHash

VISITOR_HASH_KEY: Final = bytes(range(32))
VISITOR_HASH: Final = VisitorHash(VISITOR_HASH_KEY)
