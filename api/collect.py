"""POST /v1/events: bodies in all their forms, each event checked, the good ones made durable."""

import uuid
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import zstandard
from litestar import Request, post
from litestar.datastructures import State as LitestarState
from litestar.response import Response

from api.access import merchant_of, require, the_sender
from api.answers import COLLECTING
from api.problems import problem
from api.spool import SpoolFullError
from api.state import State
from events.check import Event, Rejection, check, encode
from events.countries import COUNTRIES
from events.places import country_of
from events.privacy import remove_personal_data

MAX_BODY_BYTES: Final = 5 << 20
MAX_EVENTS: Final = 10_000
_NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonlines")


class Rejected(msgspec.Struct):
    """An event that was not accepted, and why."""

    index: int
    field: str | None
    reason: str
    detail: str


class Collected(msgspec.Struct):
    """What became of a request's events."""

    accepted: int
    rejected: list[Rejected]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_envelope = msgspec.json.Decoder(_Envelope).decode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


@post("/v1/events", status_code=202, tags=["events"], summary="Send events", responses=COLLECTING)
async def collect(
    request: Request[Any, Any, Any],
    state: LitestarState,
    validate: bool = False,
    merchant_id: int | None = None,
) -> Response[Collected]:
    """Accept one event, a list, `{"events": […]}` or NDJSON, plain, gzip or zstd. Accepted means on
    disk: acknowledged by the log or fsynced in the spool. `?validate=true` only checks. From a
    browser, a key that was made with origins may stand in the address as `?key=`."""
    footfall: State = state.footfall
    key = await the_sender(request, footfall)
    require(key, "events:write")
    merchant = merchant_of(key, merchant_id)
    await footfall.merchant(merchant)
    raws = split_body(await _body(request), request.headers.get("content-type", ""))
    now = datetime.now(UTC)
    country = _country(request, footfall) if key.origins else None
    accepted, rejected = check_events(raws, merchant, now, footfall, country)
    if accepted and not validate:
        name = str(merchant).encode()
        try:
            await footfall.publisher.publish([(name, value) for value in accepted])
        except SpoolFullError as error:
            raise problem(
                503,
                "spool_full",
                "The log is away and the spool is full: send these events again later.",
                headers={"Retry-After": "30"},
            ) from error
    return Response(Collected(len(accepted), rejected), status_code=202)


def check_events(
    raws: Sequence[bytes], merchant: int, now: datetime, footfall: State, country: str | None = None
) -> tuple[list[bytes], list[Rejected]]:
    """The topic's messages for the good events, and what is wrong with the others.

    Args:
        country: of those that say neither their country nor their address.
    """
    now_ms = int(now.timestamp() * 1000)
    accepted: list[bytes] = []
    rejected: list[Rejected] = []
    for index, raw in enumerate(raws):
        verdict = check(
            raw,
            now_ms=now_ms,
            limits=footfall.settings.limits,
            merchant_id=merchant,
            over_http=True,
        )
        if isinstance(verdict, Rejection):
            rejected.append(Rejected(index, verdict.field, verdict.reason, verdict.detail))
        else:
            if verdict.country is None:
                verdict.country = _country_of(verdict.ip, footfall) if verdict.ip else country
            accepted.append(_message(verdict, now_ms))
    return accepted, rejected


def _country(request: Request[Any, Any, Any], footfall: State) -> str | None:
    """Of a browser, by its address, which goes no further than this."""
    return _country_of(request.client.host, footfall) if request.client else None


def _country_of(ip: object, footfall: State) -> str | None:
    if footfall.countries is None:
        return None
    code = country_of(footfall.countries, str(ip))
    return code if code in COUNTRIES else None


def _message(event: Event, now_ms: int) -> bytes:
    """What goes on the topic: with a time and an id, so that a second delivery counts once, and
    without personal data."""
    remove_personal_data(event)
    if event.timestamp is None:
        event.timestamp = now_ms
    if event.event_id is None:
        event.event_id = uuid.uuid4().hex
    return encode(event)


def split_body(body: bytes, content_type: str) -> list[bytes]:
    """The raw events of a body.

    Raises:
        ProblemDetailsException: 400 where the envelope itself cannot be read.
    """
    if content_type.split(";", maxsplit=1)[0].strip().lower() in _NDJSON:
        raws = [line for line in body.splitlines() if line.strip()]
    else:
        start = body.lstrip()[:1]
        try:
            if start == b"[":
                raws = [bytes(raw) for raw in _array(body)]
            elif _is_envelope(body):
                raws = [bytes(raw) for raw in _envelope(body).events]
            else:
                msgspec.json.decode(body)
                raws = [body]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise problem(
                400,
                "invalid_body",
                f'Send one event, a list of events, {{"events": […]}} or NDJSON: {error}',
            ) from error
    if not raws:
        raise problem(400, "no_events", "The body holds no event.")
    if len(raws) > MAX_EVENTS:
        raise problem(413, "too_many_events", f"At most {MAX_EVENTS} events in a request.")
    return raws


class _MaybeEnvelope(msgspec.Struct):
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def _is_envelope(body: bytes) -> bool:
    return msgspec.json.decode(body, type=_MaybeEnvelope).events is not msgspec.UNSET


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """The body, decompressed, bounded before and after."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        parts.append(part)
    body = b"".join(parts)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    try:
        match encoding:
            case "identity" | "":
                return body
            case "gzip":
                return _bounded(zlib.decompressobj(wbits=31), body)
            case "zstd":
                with zstandard.ZstdDecompressor().stream_reader(body) as reader:
                    plain = reader.read(MAX_BODY_BYTES + 1)
                if len(plain) > MAX_BODY_BYTES:
                    raise _too_large()
                return plain
    except (zlib.error, zstandard.ZstdError) as error:
        raise problem(400, "invalid_compression", f"The body is not {encoding}: {error}") from error
    raise problem(415, "unknown_encoding", "Content-Encoding is gzip, zstd or none.")


def _bounded(decompressor: Any, body: bytes) -> bytes:
    plain: bytes = decompressor.decompress(body, MAX_BODY_BYTES)
    if decompressor.unconsumed_tail:
        raise _too_large()
    if not decompressor.eof:
        raise zlib.error("the stream is cut off")
    return plain


def _too_large() -> Exception:
    return problem(
        413, "body_too_large", f"At most {MAX_BODY_BYTES} bytes, unpacked: send several requests."
    )
