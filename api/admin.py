"""Provisioning: merchants and their keys, by operators."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.datastructures import State as LitestarState

from api.access import require, the_key
from api.problems import invalid, problem, unknown
from api.query.periods import zone
from api.state import State
from db import catalogue
from events.money import EXPONENTS

MERCHANT_SCOPES = ("events:write", "stats:read")


class NewMerchant(msgspec.Struct, forbid_unknown_fields=True):
    """A shop to add."""

    name: str
    timezone: str = "UTC"
    currency: str = "EUR"


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key to make."""

    scopes: list[str]
    name: str = ""
    expires_at: datetime | None = None


@post("/v1/merchants", tags=["admin"], summary="Add a merchant")
async def create_merchant(
    request: Request[Any, Any, Any], state: LitestarState, data: NewMerchant
) -> dict[str, Any]:
    """Add a shop with its zone and currency."""
    footfall = await _operator(request, state)
    zone(data.timezone)
    if data.currency not in EXPONENTS:
        raise unknown("currency", data.currency, EXPONENTS)
    if not data.name.strip() or len(data.name) > 200 or "\0" in data.name:
        raise invalid("name", "A name has 1 to 200 characters.")
    made = await catalogue.create_merchant(
        footfall.catalogue, data.name, data.timezone, data.currency
    )
    return {
        "merchant_id": made.merchant_id,
        "name": made.name,
        "timezone": made.timezone,
        "currency": made.currency,
    }


@post("/v1/merchants/{merchant_id:int}/keys", tags=["admin"], summary="Make a key")
async def create_key(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int, data: NewKey
) -> dict[str, Any]:
    """Make a key. It is shown this once."""
    footfall = await _operator(request, state)
    await footfall.merchant(merchant_id)
    for scope in data.scopes:
        if scope not in MERCHANT_SCOPES:
            raise unknown("scope", scope, MERCHANT_SCOPES)
    if not data.scopes:
        raise invalid("scopes", "Name at least one scope.")
    if len(data.name) > 200 or "\0" in data.name:
        raise invalid("name", "A name has at most 200 characters.")
    if data.expires_at is not None and data.expires_at.tzinfo is None:
        raise invalid("expires_at", "Give an offset: end it with Z or +02:00.")
    number, key = await catalogue.create_key(
        footfall.catalogue, merchant_id, data.scopes, data.name, data.expires_at
    )
    return {"key_id": number, "key": key, "scopes": data.scopes, "expires_at": data.expires_at}


@get("/v1/merchants/{merchant_id:int}/keys", tags=["admin"], summary="List keys")
async def list_keys(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int
) -> dict[str, Any]:
    """A merchant's keys, without the keys themselves."""
    footfall = await _operator(request, state)
    await footfall.merchant(merchant_id)
    return {"keys": await catalogue.list_keys(footfall.catalogue, merchant_id)}


@delete("/v1/merchants/{merchant_id:int}/keys/{key_id:int}", tags=["admin"], summary="Revoke a key")
async def revoke_key(
    request: Request[Any, Any, Any], state: LitestarState, merchant_id: int, key_id: int
) -> None:
    """Revoke a key: it stops working within ten seconds."""
    footfall = await _operator(request, state)
    await footfall.merchant(merchant_id)
    if not 1 <= key_id < 2**63 or not await catalogue.revoke_key(
        footfall.catalogue, key_id, merchant_id
    ):
        raise problem(404, "not_found", "There is no such key, or it was revoked before.")


async def _operator(request: Request[Any, Any, Any], state: LitestarState) -> State:
    footfall: State = state.footfall
    require(await the_key(request, footfall), "admin")
    return footfall
