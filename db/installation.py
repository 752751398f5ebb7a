"""What belongs to the whole installation: the secret that visitor hashes are keyed with."""

import secrets
from typing import Final

import asyncpg
import psycopg

KEY_BYTES: Final = 32

_READ: Final = "SELECT visitor_hash_key FROM installation"


class NotMigratedError(Exception):
    """The catalogue lacks what `footfall migrate` creates."""


def ensure_visitor_hash_key(
    connection: psycopg.Connection[object], given: bytes | None = None
) -> None:
    """Create the key once. An existing key is never replaced: visitors counted under two keys
    cannot be compared.

    Args:
        connection: to the catalogue, in autocommit.
        given: the key to store when there is none yet; a random one by default.

    Raises:
        ValueError: the given key is not 32 bytes long, or another key is stored already.
    """
    if given is not None and len(given) != KEY_BYTES:
        raise ValueError(f"a visitor hash key has {KEY_BYTES} bytes, not {len(given)}")
    connection.execute(
        "INSERT INTO installation (visitor_hash_key) VALUES (%s) ON CONFLICT DO NOTHING",
        (given or secrets.token_bytes(KEY_BYTES),),
    )
    if given is not None:
        stored = connection.execute(_READ).fetchone()
        if stored is None or bytes(stored[0]) != given:  # type: ignore[index]  # a row is a tuple
            raise ValueError(
                "this installation already has another visitor hash key: unset "
                "FOOTFALL_VISITOR_HASH_KEY, or rotate the key (docs/upgrading.md)"
            )


async def visitor_hash_key(catalogue: asyncpg.Pool) -> bytes:
    """The key that visitor and session ids are hashed with, 32 bytes.

    Raises:
        NotMigratedError: `footfall migrate` has not created it yet.
        asyncpg.PostgresError, OSError: the catalogue does not answer.
    """
    try:
        key: bytes | None = await catalogue.fetchval(_READ)
    except asyncpg.UndefinedTableError:
        key = None
    if key is None:
        raise NotMigratedError(
            "the catalogue has no visitor hash key: run `footfall migrate`, then start again"
        )
    return key


async def rotate_visitor_hash_key(catalogue: asyncpg.Pool) -> None:
    """Replace the key by a new random one. Every stored visitor hash is incomparable from then on
    until its history is reprocessed."""
    await catalogue.execute(
        "UPDATE installation SET visitor_hash_key = $1, rotated_at = now()",
        secrets.token_bytes(KEY_BYTES),
    )
