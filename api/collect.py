"""POST /v1/events: bodies in all their forms, each event checked, the good ones made durable."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, post
from litestar.datastructures import State as LitestarState
from litestar.response import Response

from api import public_keys
from api.access import merchant_of, require, the_sender
from api.answers import COLLECTING
from api.bodies import PAGES, SERVERS, read_events
from api.in_flight import of_page, of_server
from api.limits import address_of, charge
from api.problems import problem
from api.spool import SpoolBrokenError, SpoolFullError
from api.state import State
from db.catalogue import Merchant
from events.check import MAX_MESSAGE_BYTES, Event, Rejection, check, encode
from events.countries import COUNTRIES
from events.places import country_of
from events.privacy import remove_personal_data
from events.reasons import Reason

log = structlog.get_logger(__name__)

OLD_MS: Final = 48 * 3_600_000
POINTS_AN_OLD_HOUR: Final = 10
AT_ONCE: Final = 50  # events that are checked on the event loop; more of them beside it


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
    shop = await footfall.merchant(merchant)
    public = bool(key.origins)
    shares = of_page(merchant, address_of(request.scope)) if public else of_server(merchant)
    with footfall.bodies.reserving(shares) as reservation:
        raws = await read_events(request, reservation, PAGES if public else SERVERS)
        sender = Sender(shop, public, _country(request, footfall) if public else None)
        checking = (raws, sender, datetime.now(UTC), footfall)
        if len(raws) <= AT_ONCE:
            checked = check_events(*checking)
        else:
            checked = await asyncio.to_thread(check_events, *checking)
        charge(_points(checked, public))
        rejected = checked.rejected
        if checked.accepted and not validate:
            refused = await _publish(footfall, merchant, checked.accepted)
            rejected = sorted([*rejected, *refused], key=attrgetter("index"))
    return Response(Collected(len(raws) - len(rejected), rejected), status_code=202)


async def _publish(
    footfall: State, merchant: int, accepted: Sequence[tuple[int, bytes]]
) -> list[Rejected]:
    """Make events durable; those that the log refuses.

    Raises:
        ProblemDetailsException: 503, neither the log nor the spool takes them.
    """
    name = str(merchant).encode()
    try:
        refused = await footfall.publisher.publish([(name, value) for _, value in accepted])
    except SpoolFullError as error:
        raise problem(
            503,
            "spool_full",
            "The log is away and the spool is full: send these events again later.",
            headers={"Retry-After": "30"},
        ) from error
    except SpoolBrokenError as error:
        log.error("spool_broken", error=str(error))
        raise problem(
            503,
            "spool_broken",
            "The log is away and this server cannot write to its disk: send these events again "
            "later.",
            headers={"Retry-After": "30"},
        ) from error
    return [
        Rejected(
            accepted[each.index][0], None, Reason.TOO_LARGE, f"the log refuses it: {each.reason}"
        )
        for each in refused
    ]


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose events a request holds, and how they come."""

    merchant: Merchant
    public: bool  # by a public key
    country: str | None  # of those events that say neither their country nor their address


@dataclass(slots=True)
class Checked:
    """A request's events, checked."""

    accepted: list[tuple[int, bytes]] = field(default_factory=list)  # index and topic's message
    rejected: list[Rejected] = field(default_factory=list)
    rows: int = 0  # events and items
    # Distinct hours of more than two days ago, each of which every rollup of the shard has to
    # compute again for all merchants.
    old_hours: int = 0


def _points(checked: Checked, public: bool) -> int:
    """What a request costs beyond the point of every request."""
    rows = checked.rows // public_keys.ROWS_A_POINT if public else 0
    return rows + POINTS_AN_OLD_HOUR * checked.old_hours


def check_events(raws: Sequence[bytes], sender: Sender, now: datetime, footfall: State) -> Checked:
    """Check each event by itself and make the topic's messages of the good ones."""
    now_ms = int(now.timestamp() * 1000)
    checked = Checked(rows=len(raws))
    old_hours: set[int] = set()
    limits = public_keys.LIMITS if sender.public else footfall.settings.limits
    for index, raw in enumerate(raws):
        verdict = check(
            raw,
            now_ms=now_ms,
            limits=limits,
            merchant_id=sender.merchant.merchant_id,
            over_http=True,
        )
        if sender.public and not isinstance(verdict, Rejection):
            public_keys.mark(verdict)
            verdict = public_keys.refusal(verdict, sender.merchant) or verdict
        if isinstance(verdict, Rejection):
            refused = Rejected(index, verdict.field, verdict.reason, verdict.detail)
            checked.rejected.append(refused)
        else:
            checked.rows += len(verdict.items or ())
            if verdict.country is None:
                verdict.country = (
                    _country_of(verdict.ip, footfall) if verdict.ip else sender.country
                )
            if isinstance(verdict.timestamp, int) and now_ms - verdict.timestamp > OLD_MS:
                old_hours.add(verdict.timestamp // 3_600_000)
            message = _message(verdict, now_ms)
            if len(message) <= MAX_MESSAGE_BYTES:
                checked.accepted.append((index, message))
            else:  # our own fields and its plainest form made it longer
                detail = f"an event is at most {MAX_MESSAGE_BYTES} bytes, as it is logged"
                too_large = Rejected(index, None, Reason.TOO_LARGE, detail)
                checked.rejected.append(too_large)
    checked.old_hours = len(old_hours)
    return checked


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
