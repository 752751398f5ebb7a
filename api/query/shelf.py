"""Kept answers on a shelf that all workers of a machine share: a file mapped into their memory.

What one worker has made the others need not ask for. Reading takes no lock. The shelf lives as long
as the server that made it: its answers bear readings of the machine's own clock.
"""

from pathlib import Path
from typing import Final

import lmdb
import msgspec
import structlog

from api.query.kept import Kept

log = structlog.get_logger(__name__)

BYTES: Final = 256 << 20
_read: Final = msgspec.msgpack.Decoder(Kept)


class Shelf:
    """Answers by question. A full shelf is emptied: each worker still has what it used lately."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # nothing that must outlive a crash of the machine is written: no sync
        self._file = lmdb.open(
            str(folder), map_size=BYTES, sync=False, metasync=False, writemap=True, max_readers=512
        )
        self._file.reader_check()  # a worker that was killed may have left its mark

    def close(self) -> None:
        """Unmap it."""
        self._file.close()

    def get(self, question: bytes) -> Kept | None:
        """The answer that a worker put there last."""
        with self._file.begin() as reading:
            found = reading.get(question)
        return None if found is None else _read.decode(found)

    def put(self, question: bytes, kept: Kept) -> None:
        """Leave an answer for the others."""
        written = msgspec.msgpack.encode(kept)
        try:
            with self._file.begin(write=True) as writing:
                held = writing.stat(self._file.open_db())
                pages = held["leaf_pages"] + held["overflow_pages"] + held["branch_pages"]
                # half of it is room for the pages that readers still look at
                if pages * held["psize"] + len(written) > BYTES // 2:
                    writing.drop(self._file.open_db(), delete=False)
                writing.put(question, written)
        except lmdb.MapFullError:
            log.warning("shelf_full", question=question.hex())
            self._file.reader_check()
