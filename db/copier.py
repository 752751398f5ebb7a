"""Columns into a table: Arrow, encoded as PostgreSQL's binary COPY, in large messages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pgpq
import polars as pl

from db.pools import Connection

# Ascending time, so that two writers touch compressed chunks in one order; within a day by
# merchant, as questions read them.
ROW_ORDER: Final = (pl.col("ts").dt.date(), pl.col("merchant_id"), pl.col("ts"))
MESSAGE_BYTES: Final = 512 * 1024  # small CopyData messages halve the rate


class CopyMismatchError(Exception):
    """The server took another number of rows than it was sent: the transaction must not commit."""


def encode_rows(frame: pl.DataFrame) -> bytes:
    """The frame as a whole binary COPY stream: header, rows, trailer."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    batches = table.combine_chunks().to_batches()
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    parts = [encoder.write_header()]
    parts += [encoder.write_batch(batch) for batch in batches]
    parts.append(encoder.finish())
    return b"".join(parts)


async def copy_rows(connection: Connection, table: str, frame: pl.DataFrame) -> None:
    """COPY a frame whose columns are named as the table's.

    Raises:
        CopyMismatchError: the row count of the server's answer is not the frame's.
        asyncpg.PostgresError: as the server refuses it.
    """
    if frame.height == 0:
        return
    encoded = await asyncio.to_thread(encode_rows, frame)
    await copy_encoded(connection, table, frame.columns, frame.height, encoded)


async def copy_encoded(
    connection: Connection, table: str, columns: list[str], rows: int, encoded: bytes
) -> None:
    """COPY what `encode_rows` made."""
    tag = await connection.copy_to_table(
        table, source=_messages(encoded), columns=columns, format="binary"
    )
    if tag != f"COPY {rows}":
        raise CopyMismatchError(f"{table}: sent {rows} rows, the server answered {tag}")


async def _messages(encoded: bytes) -> AsyncIterator[bytes]:
    view = memoryview(encoded)
    for start in range(0, len(encoded), MESSAGE_BYTES):
        yield bytes(view[start : start + MESSAGE_BYTES])
