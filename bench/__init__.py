"""Benchmarks: what is measured uses memory as the commands do."""

from typing import Final

from events.identity import VisitorHash
from footfall.loop import keep_memory

VISITOR_HASH: Final = VisitorHash(bytes(32))  # of rows that a benchmark makes itself

keep_memory()
