"""Provisioning: merchants and their keys, by operators."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State as LitestarState
from msgspec import Meta

from api.access import merchant_of, require, the_key
from api.answers import OPERATING
from api.problems import invalid, problem, unknown
from api.query.periods import zone
from api.state import State
from db import catalogue
from db.origins import OriginError, checked_origins
from events.money import EXPONENTS

MERCHANT_SCOPES: Final = ("events:write", "stats:read")
MAX_OVERLAP_S: Final = 90 * 86_400


class NewMerchant(msgspec.Struct, forbid_unknown_fields=True):
    """A shop to add."""

    name: str
    timezone: str = "UTC"
    currency: str = "EUR"
    public_orders: Annotated[
        bool, Meta(description="Whether purchases and refunds may come by a public key.")
    ] = True
    public_value_limit: Annotated[
        int,
        Meta(ge=0, le=1_000_000_000, description="Of one amount by a public key, major units."),
    ] = 10_000_000


class MadeMerchant(msgspec.Struct):
    """A shop."""

    merchant_id: int
    name: str
    timezone: str
    currency: str
    public_orders: bool
    public_value_limit: int


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key to make."""

    scopes: list[str]
    name: str = ""
    expires_at: datetime | None = None
    origins: list[str] = []


class MadeKey(msgspec.Struct):
    """A key, shown this once."""

    key_id: int
    key: str
    scopes: list[str]
    expires_at: datetime | None
    origins: list[str]


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """How a key is to be replaced."""

    overlap_seconds: Annotated[
        int, Meta(description="For how long the old key stays valid beside the new one.")
    ] = 86_400
    expires_at: datetime | None = None


class RotatedKey(msgspec.Struct):
    """The key that takes another's place, shown this once."""

    key_id: int
    key: str
    scopes: list[str]
    expires_at: datetime | None
    old_valid_until: datetime


class ListedKey(msgspec.Struct):
    """A key without the key itself; the hint is how it begins."""

    key_id: int
    merchant_id: int | None
    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    origins: list[str]
    last_used_at: datetime | None


class ListedKeys(msgspec.Struct):
    """A merchant's keys."""

    keys: list[ListedKey]


@post("/v1/merchants", tags=["admin"], summary="Add a merchant", responses=OPERATING)
async def create_merchant(
    request: Request[Any, Any, Any], state: LitestarState, data: NewMerchant
) -> MadeMerchant:
    """Add a shop with its zone and currency."""
    footfall, _ = await _operator(request, state)
    zone(data.timezone)
    if data.currency not in EXPONENTS:
        raise unknown("currency", data.currency, EXPONENTS)
    if not data.name.strip() or len(data.name) > 200 or "\0" in data.name:
        raise invalid("name", "A name has 1 to 200 characters.")
    made = await catalogue.create_merchant(
        footfall.catalogue,
        data.name,
        data.timezone,
        data.currency,
        public_orders=data.public_orders,
        public_value_limit=data.public_value_limit,
    )
    footfall.merchants.forget(made.merchant_id)
    return msgspec.convert(made, MadeMerchant, from_attributes=True)


@post(
    "/v1/merchants/{merchant_id:int}/keys",
    tags=["admin"],
    summary="Make a key",
    responses=OPERATING,
)
async def create_key(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int, data: NewKey
) -> MadeKey:
    """Make a key. It is shown this once. With `origins` it is for browsers: it may send events from
    pages of these origins and do nothing else."""
    footfall, actor = await _operator(request, state, merchant_id)
    for scope in data.scopes:
        if scope not in MERCHANT_SCOPES:
            raise unknown("scope", scope, MERCHANT_SCOPES)
    if not data.scopes:
        raise invalid("scopes", "Name at least one scope.")
    if len(data.name) > 200 or "\0" in data.name:
        raise invalid("name", "A name has at most 200 characters.")
    _check_expiry(data.expires_at)
    try:
        origins = checked_origins(data.origins, data.scopes)
    except OriginError as error:
        raise invalid("origins", str(error)) from error
    number, key = await catalogue.create_key(
        footfall.catalogue,
        merchant_id,
        data.scopes,
        data.name,
        data.expires_at,
        actor=actor,
        origins=origins,
    )
    return MadeKey(number, key, data.scopes, data.expires_at, list(origins))


@get(
    "/v1/merchants/{merchant_id:int}/keys",
    tags=["admin"],
    summary="List keys",
    responses=OPERATING,
)
async def list_keys(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int
) -> ListedKeys:
    """A merchant's keys, without the keys themselves."""
    footfall, _ = await _operator(request, state, merchant_id)
    found = await catalogue.list_keys(footfall.catalogue, merchant_id)
    return ListedKeys([ListedKey(**key) for key in found])


@post(
    "/v1/merchants/{merchant_id:int}/keys/{key_id:int}/rotate",
    tags=["admin"],
    summary="Replace a key",
    responses=OPERATING,
)
async def rotate_key(
    request: Request[Any, Any, Any],
    state: LitestarState,
    merchant_id: int,
    key_id: int,
    data: Rotation | None = None,
) -> RotatedKey:
    """A new key of the same scopes and origins, shown this once. The old one stays valid for
    `overlap_seconds`, a day unless you say otherwise, and no longer than it would have been."""
    footfall, actor = await _operator(request, state, merchant_id)
    asked = data or Rotation()
    if not 0 <= asked.overlap_seconds <= MAX_OVERLAP_S:
        raise invalid("overlap_seconds", f"The overlap is 0 to {MAX_OVERLAP_S} seconds.")
    _check_expiry(asked.expires_at)
    overlap = timedelta(seconds=asked.overlap_seconds)
    made = None
    if 1 <= key_id < 2**63:
        made = await catalogue.rotate_key(
            footfall.catalogue, key_id, overlap, merchant_id, asked.expires_at, actor=actor
        )
    if made is None:
        raise problem(404, "not_found", "There is no such key, or it is no longer valid.")
    return RotatedKey(made.key_id, made.key, made.scopes, asked.expires_at, made.old_until)


@delete(
    "/v1/merchants/{merchant_id:int}/keys/{key_id:int}",
    tags=["admin"],
    summary="Revoke a key",
    responses=OPERATING,
)
async def revoke_key(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int, key_id: int
) -> None:
    """Revoke a key: it stops working within ten seconds."""
    footfall, actor = await _operator(request, state, merchant_id)
    if not 1 <= key_id < 2**63 or not await catalogue.revoke_key(
        footfall.catalogue, key_id, merchant_id, actor=actor
    ):
        raise problem(404, "not_found", "There is no such key, or it was revoked before.")


def _check_expiry(moment: datetime | None) -> None:
    if moment is None:
        return
    if moment.tzinfo is None:
        raise invalid("expires_at", "Give an offset: end it with Z or +02:00.")
    if not datetime.now(UTC) < moment or moment.year > 9000:
        raise invalid("expires_at", "Give an instant that is still to come.")


async def _operator(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int | None = None
) -> tuple[State, str]:
    """The state and the operator's name for the audit trail. Refuse who is no operator; another
    merchant's shop looks like none."""
    footfall: State = state.footfall
    key = await the_key(request, footfall)
    if merchant_id is not None:
        merchant_of(key, merchant_id)
    require(key, "admin")
    if merchant_id is not None:
        await footfall.merchant(merchant_id)
    return footfall, f"key {key.key_id}"
