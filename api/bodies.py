"""Bodies of events: read, decompressed and split into single events, all of it bounded.

A body is split without being parsed, so that one broken event costs itself and not its neighbours.
"""

import asyncio
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from backports import zstd
from litestar import Request

from api.in_flight import Reservation
from api.problems import problem

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


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much a sender may send at a time, and how slowly."""

    size: int  # bytes, unpacked
    events: int
    within_s: float
    who: str

    def too_large(self) -> Exception:
        """A refusal of a body that is too large."""
        return self._refusal("body_too_large")

    def too_many(self) -> Exception:
        """A refusal of a body with too many events."""
        return self._refusal("too_many_events")

    def _refusal(self, code: str) -> Exception:
        return problem(
            413,
            code,
            f"{self.who} sends at most {self.events} events and {self.size >> 10} KiB, unpacked, "
            "at a time: send several requests.",
        )


SERVERS: Final = BodyLimits(5 << 20, 10_000, 60.0, "A secret key")
PAGES: Final = BodyLimits(256 << 10, 500, 15.0, "A public key")


async def read_events(
    request: Request[Any, Any, Any], reservation: Reservation, limits: BodyLimits
) -> list[bytes]:
    """The raw events of a request's body, each to be checked by itself.

    Raises:
        ProblemDetailsException: 400 where it is cut off, not JSON or has no event; 408 where it
            comes too slowly; 413 where it is too large; 415 for an unknown encoding.
    """
    try:
        async with asyncio.timeout(limits.within_s):
            packed = await _read(request, reservation, limits)
    except TimeoutError as error:
        raise problem(
            408, "body_too_slow", f"The body did not arrive within {limits.within_s:.0f} seconds."
        ) from error
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    content_type = request.headers.get("content-type", "")
    if encoding in ("identity", "") and len(packed) <= SMALL_BYTES:
        return split(packed, content_type, limits)
    body = await asyncio.to_thread(decompress, packed, encoding, limits)
    reservation.add(max(0, len(body) - len(packed)))
    return await asyncio.to_thread(split, body, content_type, limits)


async def _read(
    request: Request[Any, Any, Any], reservation: Reservation, limits: BodyLimits
) -> bytes:
    if (request.content_length or 0) > limits.size:
        raise limits.too_large()
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limits.size:
            raise limits.too_large()
        reservation.add(len(part))
        parts.append(part)
    return b"".join(parts)


def decompress(body: bytes, encoding: str, limits: BodyLimits = SERVERS) -> bytes:
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
        plain: bytes = stream.read(limits.size + 1)
    except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        raise problem(
            400,
            "invalid_compression",
            f"The body is not {encoding}, or it was cut off: {error}. Nothing was accepted.",
        ) from error
    if len(plain) > limits.size:
        raise limits.too_large()
    return plain


def split(body: bytes, content_type: str, limits: BodyLimits = SERVERS) -> list[bytes]:
    """The raw events of a body: one object, an array, `{"events": [...]}` or NDJSON.

    Raises:
        ProblemDetailsException: 400 where the body as a whole is not JSON; 413.
    """
    if content_type.split(";", maxsplit=1)[0].strip().lower() in _NDJSON:
        raws = [found.group() for found in islice(_LINE.finditer(body), limits.events + 1)]
    elif len(body) <= SMALL_BYTES:
        try:
            raws = _parsed(body)
        except msgspec.ValidationError as error:  # it is JSON, but "events" is no list of them
            raise _unreadable(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raws = _scanned(body, str(error), limits)
    else:
        raws = _scanned(body, "its brackets do not match", limits)
    if not raws:
        raise problem(400, "no_events", "The body holds no event.")
    if len(raws) > limits.events:
        raise limits.too_many()
    return raws


def _parsed(body: bytes) -> list[bytes]:
    """The events of a body without a fault."""
    if body.lstrip()[:1] == b"[":
        return [bytes(raw) for raw in _array(body)]
    if _maybe_envelope(body).events is not msgspec.UNSET:
        return [bytes(raw) for raw in _envelope(body).events]
    return [body]


def _scanned(body: bytes, fault: str, limits: BodyLimits) -> list[bytes]:
    """The events of a body by its brackets and commas alone, whatever stands between them."""
    outline = _Outline.of(body)
    start = len(body) - len(body.lstrip())
    if outline is None or body[start : start + 1] not in (b"[", b"{"):
        raise _unreadable(fault)
    if body[start : start + 1] == b"[":
        return outline.elements(body, start, 1, limits.events + 1)
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
    return outline.elements(body, opening, 2, limits.events + 1)


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

    def elements(self, body: bytes, opening: int, depth: int, most: int) -> list[bytes]:
        """The elements of the array that opens here, at most `most` of them."""
        closing = self.closing(opening, depth)
        span = slice(opening, closing)
        commas = (self.codes[span] == 0x2C) & (self.depth[span] == depth) & ~self.quoted[span]
        cuts = [opening, *(np.flatnonzero(commas)[:most] + opening).tolist(), closing]
        if len(cuts) == 2 and not body[opening + 1 : closing].strip():
            return []
        pairs = islice(pairwise(cuts), most)
        return [body[first + 1 : end].strip() for first, end in pairs]


def _unreadable(fault: str) -> Exception:
    return problem(
        400,
        "invalid_body",
        f'Send one event, a list of events, {{"events": […]}} or NDJSON: {fault}',
    )
