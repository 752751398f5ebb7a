"""Merchants and keys, in the first shard's database."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

SCOPES: Final = ("events:write", "stats:read", "admin")
_HINT: Final = 10
_BYTES: Final = 32

# One statement: there is never a moment without a valid key, nor a new one without the old one's
# end. An end that was nearer stays.
_ROTATE: Final = """
WITH old AS (
  UPDATE api_key SET expires_at = least(expires_at, now() + $3)
   WHERE key_id = $1 AND ($2::int8 IS NULL OR merchant_id = $2) AND revoked_at IS NULL
     AND (expires_at IS NULL OR expires_at > now())
  RETURNING merchant_id, name, scopes, expires_at, origins)
INSERT INTO api_key (merchant_id, name, key_hash, hint, scopes, expires_at, origins)
SELECT merchant_id, name, $4, $5, scopes, $6, origins FROM old
RETURNING key_id, scopes, (SELECT expires_at FROM old) AS old_until
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


async def find_key(pool: asyncpg.Pool, key: str) -> Key | None:
    """The key, valid or not; None where there is none."""
    row = await pool.fetchrow(_OF_KEY, hashed_key(key))
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


async def create_merchant(pool: asyncpg.Pool, name: str, timezone: str, currency: str) -> Merchant:
    """Add a shop."""
    number = await pool.fetchval(
        "INSERT INTO merchant (name, timezone, currency) VALUES ($1, $2, $3) RETURNING merchant_id",
        name,
        timezone,
        currency,
    )
    return Merchant(number, name, timezone, currency)


async def find_merchant(pool: asyncpg.Pool, merchant_id: int) -> Merchant | None:
    """The shop of that number."""
    row = await pool.fetchrow(
        "SELECT merchant_id, name, timezone, currency FROM merchant WHERE merchant_id = $1",
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
    origins: Sequence[str] = (),
) -> tuple[int, str]:
    """Make a key; its number, and the key itself, which is nowhere kept.

    Raises:
        asyncpg.ForeignKeyViolationError: there is no such merchant.
    """
    key = _new_key()
    number = await pool.fetchval(
        "INSERT INTO api_key (merchant_id, name, key_hash, hint, scopes, expires_at, origins) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING key_id",
        merchant_id,
        name,
        hashed_key(key),
        key[:_HINT],
        list(scopes),
        expires_at,
        list(origins),
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
) -> Rotated | None:
    """A new key of the same scopes and origins; the old one, of that merchant where one is named,
    ends after the overlap. None where there is no valid key of that number."""
    key = _new_key()
    row = await pool.fetchrow(
        _ROTATE, key_id, merchant_id, overlap, hashed_key(key), key[:_HINT], expires_at
    )
    return Rotated(row["key_id"], key, row["scopes"], row["old_until"]) if row else None


async def list_keys(pool: asyncpg.Pool, merchant_id: int | None) -> list[dict[str, Any]]:
    """A merchant's keys, or all: everything but the keys themselves."""
    rows = await pool.fetch(
        "SELECT key_id, merchant_id, name, hint, scopes, created_at, expires_at, revoked_at, "
        "origins "
        "FROM api_key WHERE $1::int8 IS NULL OR merchant_id = $1 ORDER BY key_id",
        merchant_id,
    )
    return [dict(row) for row in rows]


async def revoke_key(pool: asyncpg.Pool, key_id: int, merchant_id: int | None = None) -> bool:
    """Revoke a key, of that merchant where one is named; whether there was one to revoke."""
    found = await pool.fetchval(
        "UPDATE api_key SET revoked_at = now() WHERE key_id = $1 AND revoked_at IS NULL "
        "AND ($2::int8 IS NULL OR merchant_id = $2) RETURNING key_id",
        key_id,
        merchant_id,
    )
    return found is not None
