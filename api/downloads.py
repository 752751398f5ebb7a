"""Files of rows: written to disk while the database is read, sent from there at the client's pace.

So the database is held for as long as the rows take, never for as long as a client takes. How many
files a merchant and a worker have at a time is limited, and so are their bytes and their age.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Final

from api.problems import problem

OF_MERCHANT: Final = 2  # files of one merchant, from their first row to their last byte
OF_WORKER: Final = 16
READING: Final = 2  # of one shard that are read from the database at a time; the others wait
WAIT_S: Final = 20.0
MOST_BYTES: Final = 512 << 20
SEND_WITHIN_S: Final = 1800.0
_IN_MEMORY: Final = 1 << 20
_CHUNK: Final = 256 << 10


@dataclass(slots=True)
class Downloads:
    """The files of one worker."""

    _by_merchant: Counter[int] = field(default_factory=Counter)
    _reading: dict[int, asyncio.Semaphore] = field(default_factory=dict)

    @asynccontextmanager
    async def reading(self, merchant_id: int, shard: int) -> AsyncIterator[None]:
        """A turn at the database.

        Raises:
            ProblemDetailsException: 429 where the merchant has files enough, 503 where all have.
        """
        if self._by_merchant[merchant_id] >= OF_MERCHANT:
            raise problem(
                429,
                "too_many_files",
                f"{OF_MERCHANT} files of this merchant are being made or sent: wait for one.",
                headers={"Retry-After": "5"},
            )
        if self._by_merchant.total() >= OF_WORKER:
            raise _busy()
        turn = self._reading.setdefault(shard, asyncio.Semaphore(READING))
        with self._counted(merchant_id):
            try:
                async with asyncio.timeout(WAIT_S):
                    await turn.acquire()
            except TimeoutError as error:
                raise _busy() from error
            try:
                yield
            finally:
                turn.release()

    async def write(self, pieces: AsyncIterator[bytes]) -> IO[bytes]:
        """A file of these pieces, at its beginning; deleted when it is closed.

        Raises:
            ProblemDetailsException: 422, it is too large.
        """
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="footfall-rows-")  # noqa: SIM115 - it outlives this function
        try:
            async for piece in pieces:
                file.write(piece)
                if file.tell() > MOST_BYTES:
                    raise problem(
                        422,
                        "too_expensive",
                        f"A file has at most {MOST_BYTES >> 20} MiB: shorten the range, or ask for "
                        "fewer columns.",
                    )
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def send(self, merchant_id: int, file: IO[bytes]) -> AsyncIterator[bytes]:
        """The bytes of a file, which is closed at the end.

        Raises:
            TimeoutError: the client takes too long over it.
        """
        ends_at = time.monotonic() + SEND_WITHIN_S
        with file, self._counted(merchant_id):
            while chunk := file.read(_CHUNK):
                if time.monotonic() > ends_at:
                    raise TimeoutError("the file was not taken in time")
                yield chunk

    def _counted(self, merchant_id: int) -> "_Counted":
        return _Counted(self._by_merchant, merchant_id)


@dataclass(frozen=True, slots=True)
class _Counted:
    by_merchant: Counter[int]
    merchant_id: int

    def __enter__(self) -> None:
        self.by_merchant[self.merchant_id] += 1

    def __exit__(self, *_: object) -> None:
        self.by_merchant[self.merchant_id] -= 1
        if not self.by_merchant[self.merchant_id]:
            del self.by_merchant[self.merchant_id]


def _busy() -> Exception:
    return problem(
        503,
        "busy",
        "Too many files are being made at the moment: try again later.",
        headers={"Retry-After": "10"},
    )
