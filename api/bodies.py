"""Bodies of events: read, decompressed and split into single events, all of it bounded.

A body is split without being parsed, so that one broken event costs itself and not its neighbours.
"""

import asyncio
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from backports import zstd
from litestar import Request

from api.problems import problem

MAX_BODY_BYTES: Final = 5 << 20
MAX_EVENTS: Final = 10_000
READ_WITHIN_S: Final = 60.0
IN_FLIGHT_BYTES: Final = 64 << 20  # of all bodies that a worker reads or checks at a time
MERCHANT_IN_FLIGHT_BYTES: Final = 16 << 20
MAX_FRAMES: Final = 1_000  # gzip members or zstd frames of a body
SMALL_BYTES: Final = 65_536  # a larger body is handled beside the event loop
_NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonlines")
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_ZSTD_MAGICS: Final = (b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18")  # of a frame, and of a skippable one
# RFC 8878 asks decoders for 8 MiB; more is memory that a client makes us spend.
_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
_LINE: Final = re.compile(rb"[^\r\n]*[^\s][^\r\n]*")
_EVENTS: Final = re.compile(rb'"events"\s*:\s*\[')


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


class _MaybeEnvelope(msgspec.Struct):
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_envelope = msgspec.json.Decoder(_Envelope).decode
_maybe_envelope = msgspec.json.Decoder(_MaybeEnvelope).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(slots=True)
class InFlight:
    """Bytes of the bodies that a worker holds at a time: neither a merchant nor a crowd fills its
    memory."""

    total: int = 0
    by_merchant: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def reserving(self, merchant: int) -> Iterator["Reservation"]:
        """A reservation that grows with the body and is given back at the end."""
        reservation = Reservation(self, merchant)
        try:
            yield reservation
        finally:
            self.total -= reservation.held
            self.by_merchant[merchant] -= reservation.held
            if not self.by_merchant[merchant]:
                del self.by_merchant[merchant]


@dataclass(slots=True)
class Reservation:
    """One body's share."""

    whole: InFlight
    merchant: int
    held: int = 0

    def add(self, count: int) -> None:
        """Reserve more bytes.

        Raises:
            ProblemDetailsException: 429 where the merchant holds too many, 503 where all do.
        """
        if self.whole.by_merchant[self.merchant] + count > MERCHANT_IN_FLIGHT_BYTES:
            raise problem(
                429,
                "too_many_at_once",
                f"Requests of this merchant hold {MERCHANT_IN_FLIGHT_BYTES >> 20} MiB of events "
                "that are not through yet: send fewer at a time.",
                headers={"Retry-After": "1"},
            )
        if self.whole.total + count > IN_FLIGHT_BYTES:
            raise problem(
                503,
                "busy",
                "Too many large requests are being taken in: send these events again later.",
                headers={"Retry-After": "2"},
            )
        self.held += count
        self.whole.total += count
        self.whole.by_merchant[self.merchant] += count


async def read_events(request: Request[Any, Any, Any], reservation: Reservation) -> list[bytes]:
    """The raw events of a request's body, at most 10,000, each to be checked by itself.

    Raises:
        ProblemDetailsException: 400 where it is cut off, not JSON or has no event; 408 where it
            comes too slowly; 413 where it is too large; 415 for an unknown encoding.
    """
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            packed = await _read(request, reservation)
    except TimeoutError as error:
        raise problem(
            408, "body_too_slow", f"The body did not arrive within {READ_WITHIN_S:.0f} seconds."
        ) from error
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    content_type = request.headers.get("content-type", "")
    if encoding in ("identity", "") and len(packed) <= SMALL_BYTES:
        return split(packed, content_type)
    body = await asyncio.to_thread(decompress, packed, encoding)
    reservation.add(max(0, len(body) - len(packed)))
    return await asyncio.to_thread(split, body, content_type)


async def _read(request: Request[Any, Any, Any], reservation: Reservation) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        reservation.add(len(part))
        parts.append(part)
    return b"".join(parts)


def decompress(body: bytes, encoding: str) -> bytes:
    """All gzip members (RFC 1952, 2.2) or zstd frames (RFC 8878, 3.1) of a body, which must be
    whole.

    Raises:
        ProblemDetailsException: 400 where it is broken or cut off; 413; 415.
    """
    match encoding:
        case "identity" | "":
            return body
        case "gzip":
            frames = body.count(_GZIP_MAGIC)
            stream: Any = gzip.GzipFile(fileobj=io.BytesIO(body))
        case "zstd":
            frames = sum(map(body.count, _ZSTD_MAGICS))
            stream = zstd.ZstdFile(io.BytesIO(body), options=_WINDOW)
        case _:
            raise problem(415, "unknown_encoding", "Content-Encoding is gzip, zstd or none.")
    if frames > MAX_FRAMES:
        raise problem(
            400, "invalid_compression", f"A body has at most {MAX_FRAMES} members or frames."
        )
    try:
        if not body:
            raise EOFError("it is empty")
        plain: bytes = stream.read(MAX_BODY_BYTES + 1)
    except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        raise problem(
            400,
            "invalid_compression",
            f"The body is not {encoding}, or it was cut off: {error}. Nothing was accepted.",
        ) from error
    if len(plain) > MAX_BODY_BYTES:
        raise _too_large()
    return plain


def split(body: bytes, content_type: str) -> list[bytes]:
    """The raw events of a body: one object, an array, `{"events": [...]}` or NDJSON.

    Raises:
        ProblemDetailsException: 400 where the body as a whole is not JSON; 413.
    """
    if content_type.split(";", maxsplit=1)[0].strip().lower() in _NDJSON:
        raws = [found.group() for found in islice(_LINE.finditer(body), MAX_EVENTS + 1)]
    elif len(body) <= SMALL_BYTES:
        try:
            raws = _parsed(body)
        except msgspec.ValidationError as error:  # it is JSON, but "events" is no list of them
            raise _unreadable(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raws = _scanned(body, str(error))
    else:
        raws = _scanned(body, "its brackets do not match")
    if not raws:
        raise problem(400, "no_events", "The body holds no event.")
    if len(raws) > MAX_EVENTS:
        raise problem(413, "too_many_events", f"At most {MAX_EVENTS} events in a request.")
    return raws


def _parsed(body: bytes) -> list[bytes]:
    """The events of a body without a fault."""
    if body.lstrip()[:1] == b"[":
        return [bytes(raw) for raw in _array(body)]
    if _maybe_envelope(body).events is not msgspec.UNSET:
        return [bytes(raw) for raw in _envelope(body).events]
    return [body]


def _scanned(body: bytes, fault: str) -> list[bytes]:
    """The events of a body by its brackets and commas alone, whatever stands between them."""
    outline = _Outline.of(body)
    start = len(body) - len(body.lstrip())
    if outline is None or body[start : start + 1] not in (b"[", b"{"):
        raise _unreadable(fault)
    if body[start : start + 1] == b"[":
        return outline.elements(body, start, 1)
    opening = next(
        (
            found.end() - 1
            for found in _EVENTS.finditer(body)
            if outline.depth[found.start()] == 1 and not outline.quoted[found.start() - 1]
        ),
        None,
    )
    if opening is None:
        return [body]
    closing = outline.closing(opening, 2)
    try:
        _envelope(body[: opening + 1] + body[closing:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(str(error)) from error
    return outline.elements(body, opening, 2)


@dataclass(frozen=True, slots=True)
class _Outline:
    """For each byte of a JSON text: its depth of brackets after it, and whether it is quoted."""

    depth: npt.NDArray[np.int32]
    quoted: npt.NDArray[np.bool_]
    codes: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, body: bytes) -> "_Outline | None":
        """None where brackets or quotes do not match, or something follows the last bracket."""
        codes = np.frombuffer(body, np.uint8)
        places = np.arange(codes.size, dtype=np.int32)
        # A quote is escaped by an odd run of backslashes before it.
        plain = np.where(codes != 0x5C, places, np.int32(-1))
        before = np.maximum.accumulate(plain)
        run = places - before
        quotes = codes == 0x22
        quotes[1:] &= run[:-1] % 2 == 0
        inside = np.cumsum(quotes, dtype=np.int32) % 2 == 1
        quoted = inside | quotes
        steps = ((codes | 0x20) == 0x7B).astype(np.int8) - ((codes | 0x20) == 0x7D)
        steps[quoted] = 0
        depth = np.cumsum(steps, dtype=np.int32)
        if codes.size == 0 or depth[-1] != 0 or depth.min() < 0 or inside[-1]:
            return None
        closed = np.flatnonzero((depth == 0) & (steps == -1))
        if closed.size != 1 or body[closed[0] + 1 :].strip():
            return None
        return cls(depth, quoted, codes)

    def closing(self, opening: int, depth: int) -> int:
        """Where the bracket that opens at this place, to this depth, is closed."""
        return opening + int(np.argmax(self.depth[opening:] < depth))

    def elements(self, body: bytes, opening: int, depth: int) -> list[bytes]:
        """What stands between the commas of the array that opens here."""
        closing = self.closing(opening, depth)
        span = slice(opening, closing)
        commas = (self.codes[span] == 0x2C) & (self.depth[span] == depth) & ~self.quoted[span]
        cuts = [opening, *(np.flatnonzero(commas)[: MAX_EVENTS + 1] + opening).tolist(), closing]
        if len(cuts) == 2 and not body[opening + 1 : closing].strip():
            return []
        pairs = islice(pairwise(cuts), MAX_EVENTS + 1)
        return [body[first + 1 : end].strip() for first, end in pairs]


def _unreadable(fault: str) -> Exception:
    return problem(
        400,
        "invalid_body",
        f'Send one event, a list of events, {{"events": […]}} or NDJSON: {fault}',
    )


def _too_large() -> Exception:
    return problem(
        413, "body_too_large", f"At most {MAX_BODY_BYTES} bytes, unpacked: send several requests."
    )
