"""Columns into a table: Arrow, encoded as PostgreSQL's binary COPY, in large messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import asyncpg
import pgpq
import polars as pl

from db.pools import Connection

# Ascending time, so that two writers touch compressed chunks in one order; within a day by
# merchant, as questions read them.
ROW_ORDER: Final = (pl.col("ts").dt.date(), pl.col("merchant_id"), pl.col("ts"))
MESSAGE_BYTES: Final = 512 * 1024  # small CopyData messages halve the rate
STALLED_S: Final = 60.0  # without taking the next message
ANSWER_WITHIN_S: Final = 900.0  # after the last one: statement_timeout comes first


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
        ConnectionError: as `copy_encoded`.
    """
    if frame.height == 0:
        return
    encoded = await asyncio.to_thread(encode_rows, frame)
    await copy_encoded(connection, table, frame.columns, frame.height, encoded)


async def copy_encoded(
    connection: Connection, table: str, columns: list[str], rows: int, encoded: bytes
) -> None:
    """COPY what `encode_rows` made.

    asyncpg waits without a limit for a lost connection to take more, and for one that takes
    nothing; so this watches over it.

    Raises:
        ConnectionError: the connection was lost, or took nothing for a minute.
    """
    clock = asyncio.get_running_loop().time

    def lost(_: object) -> None:
        limit.reschedule(clock())

    async def messages() -> AsyncIterator[bytes]:
        view = memoryview(encoded)
        for start in range(0, len(encoded), MESSAGE_BYTES):
            limit.reschedule(clock() + STALLED_S)
            yield bytes(view[start : start + MESSAGE_BYTES])
        limit.reschedule(clock() + ANSWER_WITHIN_S)

    try:
        async with asyncio.timeout(STALLED_S) as limit:
            connection.add_termination_listener(lost)
            try:
                tag = await connection.copy_to_table(
                    table, source=messages(), columns=columns, format="binary"
                )
            finally:
                with suppress(asyncpg.InterfaceError):  # it was lost, and its listeners with it
                    connection.remove_termination_listener(lost)
    except TimeoutError as error:
        raise ConnectionError(f"COPY into {table}: the connection was lost or stalled") from error
    if tag != f"COPY {rows}":
        raise CopyMismatchError(f"{table}: sent {rows} rows, the server answered {tag}")
