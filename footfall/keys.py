"""`footfall merchants` and `footfall keys`: who may send and ask."""

import getpass
import json
import socket
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from db import catalogue
from db.installation import rotate_visitor_hash_key
from db.origins import OriginError, checked_origins
from db.pools import WRITER_SETTINGS, open_pool
from footfall.environment import Environment
from footfall.loop import run as in_loop
from footfall.told import Json, output, progress, tell

merchants = typer.Typer(help="Shops.", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)

_EXPIRES: Final = "When it ends: 90d, 12h, or an RFC 3339 instant; never without it."
_UNITS: Final = {"d": timedelta(days=1), "h": timedelta(hours=1)}


PublicOrders = Annotated[
    bool | None,
    typer.Option(
        "--public-orders/--no-public-orders",
        help="Whether purchases and refunds may come by a public key, from a page.",
    ),
]
PublicValueLimit = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1_000_000_000,
        help="The largest amount that may come by a public key, in major units.",
    ),
]


@merchants.command("create")
def create_merchant(
    name: str,
    timezone: str = "UTC",
    currency: str = "EUR",
    *,
    public_orders: PublicOrders = True,
    public_value_limit: PublicValueLimit = 10_000_000,
    as_json: Json = False,
) -> None:
    """Add a shop."""
    made = _with_catalogue(
        lambda pool: catalogue.create_merchant(
            pool,
            name,
            timezone,
            currency,
            public_orders=public_orders is not False,
            public_value_limit=public_value_limit or 0,
        )
    )
    tell(asdict(made), as_json=as_json)


@merchants.command("set")
def set_merchant(
    merchant_id: int,
    *,
    public_orders: PublicOrders = None,
    public_value_limit: PublicValueLimit = None,
    as_json: Json = False,
) -> None:
    """Change what public keys may send for a shop; takes effect within a minute."""
    made = _with_catalogue(
        lambda pool: catalogue.set_merchant(
            pool,
            merchant_id,
            public_orders=public_orders,
            public_value_limit=public_value_limit,
        )
    )
    if made is None:
        progress.print(f"There is no merchant {merchant_id}.")
        raise typer.Exit(1)
    tell(asdict(made), as_json=as_json)


@keys.command("create")
def create_key(
    merchant: Annotated[int | None, typer.Option(help="The merchant it belongs to.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="events:write, stats:read.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="An operator's key.")] = False,
    *,
    name: str = "",
    expires: Annotated[str | None, typer.Option(help=_EXPIRES)] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="For browsers: the pages' origin, as https://shop.example."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once."""
    scopes = ["admin"] if admin else scope or []
    unknown = [each for each in scopes if each not in catalogue.SCOPES]
    if unknown or not scopes or (merchant is None and not admin) or (admin and merchant):
        raise typer.BadParameter(
            "give --merchant and --scope (events:write, stats:read), or --admin"
        )
    try:
        origins = list(checked_origins(origin or [], scopes))
    except OriginError as error:
        raise typer.BadParameter(str(error)) from error
    until = _until(expires)
    number, key = _with_catalogue(
        lambda pool: catalogue.create_key(
            pool, merchant, scopes, name, until, actor=_actor(), origins=origins
        )
    )
    made = {"key": key, "key_id": number, "merchant_id": merchant, "scopes": scopes}
    made |= {"expires_at": until.isoformat() if until else None, "origins": origins}
    tell(made, as_json=as_json)


@keys.command("rotate")
def rotate_key(
    key_id: int,
    overlap: Annotated[
        float, typer.Option(min=0, max=24 * 90, help="Hours for which the old one stays valid.")
    ] = 24,
    expires: Annotated[str | None, typer.Option(help=_EXPIRES)] = None,
    as_json: Json = False,
) -> None:
    """Make a key that takes another's place. It is shown this once; the old one ends later."""
    until = _until(expires)
    made = _with_catalogue(
        lambda pool: catalogue.rotate_key(
            pool, key_id, timedelta(hours=overlap), None, until, actor=_actor()
        )
    )
    if made is None:
        progress.print(f"There is no valid key {key_id}.")
        raise typer.Exit(1)
    told = {"key": made.key, "key_id": made.key_id, "scopes": made.scopes}
    told |= {"expires_at": until.isoformat() if until else None}
    tell(told | {"old_valid_until": made.old_until.isoformat()}, as_json=as_json)


def _until(text: str | None) -> datetime | None:
    """An expiry as it is given on the command line."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdigit() and unit in _UNITS and len(number) < 6:
        return datetime.now(UTC) + int(number) * _UNITS[unit]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no expiry: {_EXPIRES}") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= datetime.now(UTC):
        raise typer.BadParameter("the expiry lies in the past")
    return moment


@keys.command("list")
def list_keys(merchant: int | None = None, as_json: Json = False) -> None:
    """Show keys, without the keys themselves."""
    found = _with_catalogue(lambda pool: catalogue.list_keys(pool, merchant))
    if as_json:
        print(json.dumps(found, default=str))  # noqa: T201 - data for scripts
        return
    table = Table("key_id", "merchant", "hint", "scopes", "expires", "revoked", "last used")
    for key in found:
        named = (key["key_id"], key["merchant_id"], key["hint"] + "…", ", ".join(key["scopes"]))
        times = (key["expires_at"], key["revoked_at"], key["last_used_at"])
        table.add_row(*(str(each) for each in (*named, *times)))
    output.print(table)


@keys.command("audit")
def audit_keys(merchant: int | None = None, as_json: Json = False) -> None:
    """Show who made, rotated and revoked which key, newest first."""
    found = _with_catalogue(lambda pool: catalogue.key_audit(pool, merchant))
    if as_json:
        print(json.dumps(found, default=str))  # noqa: T201 - data for scripts
        return
    table = Table("at", "key_id", "merchant", "action", "actor", "detail")
    for line in found:
        table.add_row(*(str(line[name]) for name in found[0]))
    output.print(table)


@keys.command("revoke")
def revoke_key(key_id: int, as_json: Json = False) -> None:
    """Revoke a key: it stops working within ten seconds."""
    if not _with_catalogue(lambda pool: catalogue.revoke_key(pool, key_id, actor=_actor())):
        progress.print(f"There is no key {key_id}, or it was revoked before.")
        raise typer.Exit(1)
    tell({"key_id": key_id, "revoked": True}, as_json=as_json)


@keys.command("rotate-visitor-hash")
def rotate_visitor_hash(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, as_json: Json = False
) -> None:
    """Replace the key that visitor ids are hashed with, after it leaked. Restart every ingester,
    then run `footfall reprocess run` over all history: until it is through, a range that spans the
    rotation counts a visitor once before it and once after it."""
    if not yes:
        typer.confirm("Every stored visitor hash becomes incomparable. Go on?", abort=True)
    _with_catalogue(rotate_visitor_hash_key)
    tell({"rotated": True, "next": "restart ingesters, then reprocess"}, as_json=as_json)


def _actor() -> str:
    """Who runs this command, for the audit trail."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _with_catalogue(work: Any) -> Any:
    async def run() -> Any:
        pool = await open_pool(Environment.read().need_shards()[0], WRITER_SETTINGS, size=1)
        try:
            return await work(pool)
        finally:
            await pool.close()

    return in_loop(run())
