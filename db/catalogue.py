"""Merchants and keys, in the first shard's database."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

SCOPES: Final = ("events:write", "stats:read", "admin")
_HINT: Final = 10
_BYTES: Final = 32

# Each statement writes its line of the audit trail too, so that neither exists without the other.
_CREATE: Final = """
WITH made AS (
  INSERT INTO api_key (merchant_id, name, key_hash, hint, scopes, expires_at, origins)
  VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING key_id, merchant_id, scopes)
INSERT INTO key_audit (key_id, merchant_id, action, actor, detail)
SELECT key_id, merchant_id, 'created', $8, array_to_string(scopes, ' ') FROM made
RETURNING key_id
"""

# One statement: there is never a moment without a valid key, nor a new one without the old one's
# end. An end that was nearer stays.
_ROTATE: Final = """
WITH old AS (
  UPDATE api_key SET expires_at = least(expires_at, now() + $3)
   WHERE key_id = $1 AND ($2::int8 IS NULL OR merchant_id = $2) AND revoked_at IS NULL
     AND (expires_at IS NULL OR expires_at > now())
  RETURNING key_id, merchant_id, name, scopes, expires_at, origins),
made AS (
  INSERT INTO api_key (merchant_id, name, key_hash, hint, scopes, expires_at, origins)
  SELECT merchant_id, name, $4, $5, scopes, $6, origins FROM old
  RETURNING key_id, merchant_id, scopes),
noted AS (
  INSERT INTO key_audit (key_id, merchant_id, action, actor, detail)
  SELECT old.key_id, old.merchant_id, 'rotated', $7, 'replaced by key ' || made.key_id
    FROM old, made
   UNION ALL
  SELECT made.key_id, made.merchant_id, 'created', $7, 'replaces key ' || old.key_id
    FROM old, made)
SELECT made.key_id, made.scopes, old.expires_at AS old_until FROM old, made
"""

_REVOKE: Final = """
WITH revoked AS (
  UPDATE api_key SET revoked_at = now()
   WHERE key_id = $1 AND revoked_at IS NULL AND ($2::int8 IS NULL OR merchant_id = $2)
  RETURNING key_id, merchant_id)
INSERT INTO key_audit (key_id, merchant_id, action, actor)
SELECT key_id, merchant_id, 'revoked', $3 FROM revoked
RETURNING key_id
"""

_OVERLAP: Final = 500
_CHANGED: Final = """
SELECT audit_id, key_hash FROM key_audit JOIN api_key USING (key_id)
 WHERE audit_id > greatest($1, (SELECT max(audit_id) FROM key_audit) - 10000)
   AND action IN ('revoked', 'rotated')
"""

# Coarse on purpose: a key in constant use is written once in ten minutes at most.
_NOTE_USE: Final = """
UPDATE api_key SET last_used_at = used.at
  FROM unnest($1::int8[], $2::timestamptz[]) AS used (key_id, at)
 WHERE api_key.key_id = used.key_id
   AND (last_used_at IS NULL OR last_used_at < used.at - INTERVAL '10 minutes')
"""

_OF_KEY: Final = """
SELECT key_id, merchant_id, scopes, expires_at, revoked_at, origins,
       merchant.timezone, merchant.currency
  FROM api_key LEFT JOIN merchant USING (merchant_id) WHERE key_hash = $1
"""


@dataclass(frozen=True, slots=True)
class Merchant:
    """A shop."""

    merchant_id: int
    name: str
    timezone: str
    currency: str
    public_orders: bool = True  # whether purchases and refunds may come by a public key
    public_value_limit: int = 10_000_000  # of one amount or line by a public key, in major units


@dataclass(frozen=True, slots=True)
class Key:
    """What a key allows. `merchant_id` is None for an operator's.

    A key with `origins` is public: it stands in the pages of those origins, and may do nothing but
    send events from there.
    """

    key_id: int
    merchant_id: int | None
    scopes: frozenset[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    origins: frozenset[str] = frozenset()

    @property
    def has_expired(self) -> bool:
        """Whether its time is over; a revoked key's may not be."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


def hashed_key(key: str) -> bytes:
    """Keys hold 256 random bits: one round of SHA-256 is as good as a slow hash."""
    return hashlib.sha256(key.encode()).digest()


async def find_key(pool: asyncpg.Pool, key_hash: bytes) -> Key | None:
    """The key of that hash, valid or not; None where there is none."""
    row = await pool.fetchrow(_OF_KEY, key_hash)
    if row is None:
        return None
    return Key(
        row["key_id"],
        row["merchant_id"],
        frozenset(row["scopes"]),
        row["expires_at"],
        row["revoked_at"],
        frozenset(row["origins"]),
    )


_MERCHANT: Final = "merchant_id, name, timezone, currency, public_orders, public_value_limit"


async def create_merchant(
    pool: asyncpg.Pool,
    name: str,
    timezone: str,
    currency: str,
    *,
    public_orders: bool = True,
    public_value_limit: int = 10_000_000,
) -> Merchant:
    """Add a shop."""
    row = await pool.fetchrow(
        "INSERT INTO merchant (name, timezone, currency, public_orders, public_value_limit) "
        f"VALUES ($1, $2, $3, $4, $5) RETURNING {_MERCHANT}",
        name,
        timezone,
        currency,
        public_orders,
        public_value_limit,
    )
    assert row is not None  # noqa: S101 - an INSERT of one row returns it
    return Merchant(*row)


async def set_merchant(
    pool: asyncpg.Pool,
    merchant_id: int,
    *,
    public_orders: bool | None = None,
    public_value_limit: int | None = None,
) -> Merchant | None:
    """Change what is given of a shop; None where there is no such shop."""
    row = await pool.fetchrow(
        "UPDATE merchant SET public_orders = coalesce($2, public_orders), "
        "public_value_limit = coalesce($3, public_value_limit) "
        f"WHERE merchant_id = $1 RETURNING {_MERCHANT}",
        merchant_id,
        public_orders,
        public_value_limit,
    )
    return Merchant(*row) if row else None


async def find_merchant(pool: asyncpg.Pool, merchant_id: int) -> Merchant | None:
    """The shop of that number."""
    row = await pool.fetchrow(
        f"SELECT {_MERCHANT} FROM merchant WHERE merchant_id = $1",
        merchant_id,
    )
    return Merchant(*row) if row else None


async def create_key(
    pool: asyncpg.Pool,
    merchant_id: int | None,
    scopes: Sequence[str],
    name: str = "",
    expires_at: datetime | None = None,
    *,
    actor: str,
    origins: Sequence[str] = (),
) -> tuple[int, str]:
    """Make a key; its number, and the key itself, which is stored nowhere.

    Args:
        actor: who makes it, for the audit trail: `key 7`, or the operator's user on a machine.

    Raises:
        asyncpg.ForeignKeyViolationError: there is no such merchant.
    """
    key = _new_key()
    number = await pool.fetchval(
        _CREATE,
        merchant_id,
        name,
        hashed_key(key),
        key[:_HINT],
        list(scopes),
        expires_at,
        list(origins),
        actor,
    )
    return number, key


def _new_key() -> str:
    return "ff_" + secrets.token_urlsafe(_BYTES)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key's successor, and until when the old one is still valid."""

    key_id: int
    key: str
    scopes: list[str]
    old_until: datetime


async def rotate_key(
    pool: asyncpg.Pool,
    key_id: int,
    overlap: timedelta,
    merchant_id: int | None = None,
    expires_at: datetime | None = None,
    *,
    actor: str,
) -> Rotated | None:
    """A new key of the same scopes and origins; the old one, of that merchant where one is named,
    ends after the overlap. None where there is no valid key of that number."""
    key = _new_key()
    row = await pool.fetchrow(
        _ROTATE, key_id, merchant_id, overlap, hashed_key(key), key[:_HINT], expires_at, actor
    )
    return Rotated(row["key_id"], key, row["scopes"], row["old_until"]) if row else None


async def list_keys(pool: asyncpg.Pool, merchant_id: int | None) -> list[dict[str, Any]]:
    """A merchant's keys, or all: everything but the keys themselves."""
    rows = await pool.fetch(
        "SELECT key_id, merchant_id, name, hint, scopes, created_at, expires_at, revoked_at, "
        "origins, last_used_at "
        "FROM api_key WHERE $1::int8 IS NULL OR merchant_id = $1 ORDER BY key_id",
        merchant_id,
    )
    return [dict(row) for row in rows]


async def revoke_key(
    pool: asyncpg.Pool, key_id: int, merchant_id: int | None = None, *, actor: str
) -> bool:
    """Revoke a key, of that merchant where one is named; whether there was one to revoke."""
    return await pool.fetchval(_REVOKE, key_id, merchant_id, actor) is not None


async def note_use(pool: asyncpg.Pool, used: Mapping[int, datetime]) -> None:
    """Write when keys were last used, by key id; within ten minutes a second time is left out."""
    await pool.execute(_NOTE_USE, list(used), list(used.values()))


async def changed_keys(pool: asyncpg.Pool, last: int) -> tuple[int, list[bytes]]:
    """The newest number of the audit trail, and the hashes of keys that were revoked or rotated
    since `last`. Lines that were written together may appear out of order: some before it are
    told again."""
    rows = await pool.fetch(_CHANGED, last - _OVERLAP)
    return max([last, *(row["audit_id"] for row in rows)]), [row["key_hash"] for row in rows]


async def key_audit(pool: asyncpg.Pool, merchant_id: int | None) -> list[dict[str, Any]]:
    """The audit trail of a merchant's keys, or of all, newest first, at most 1,000 lines."""
    rows = await pool.fetch(
        "SELECT at, key_id, merchant_id, action, actor, detail FROM key_audit "
        "WHERE $1::int8 IS NULL OR merchant_id = $1 ORDER BY audit_id DESC LIMIT 1000",
        merchant_id,
    )
    return [dict(row) for row in rows]
