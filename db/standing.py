"""The rows of events and their items as they stand, as columns."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from db.history import AT_PLACE, Place
from db.pools import Connection

# The server sends in pieces of 8 kB, each of which costs more to be woken for than to be read: what
# comes meanwhile waits in the socket, and comes at once.
_NAP_S: Final = 0.001
_MICROS: Final = pl.Datetime("us", "UTC")
Kind = pl.DataType | type[pl.DataType]
Schema = dict[str, Kind]

# The names that `db.tables` has, whose library is slow to load; a test holds them together.
EVENT_SCHEMA: Final[Schema] = {
    "merchant_id": pl.Int64,
    "ts": _MICROS,
    "event": pl.String,
    "visitor": pl.Int64,
    "visitor_register": pl.Int16,
    "visitor_rank": pl.Int16,
    "session": pl.Int64,
    "event_id": pl.String,
    "page": pl.String,
    "source": pl.String,
    "channel": pl.String,
    "campaign": pl.String,
    "utm_medium": pl.String,
    "utm_term": pl.String,
    "utm_content": pl.String,
    "country": pl.String,
    "device": pl.String,
    "browser": pl.String,
    "os": pl.String,
    "is_bot": pl.Boolean,
    "value_minor": pl.Int64,
    "currency": pl.String,
    "order_id": pl.String,
    "counted": pl.Boolean,
    "units": pl.Int32,
    "properties": pl.String,
    "kafka_partition": pl.Int32,
    "log_offset": pl.Int64,
    "logged_at": _MICROS,
    "from_public_key": pl.Boolean,
}
ITEM_SCHEMA: Final[Schema] = {
    "merchant_id": pl.Int64,
    "ts": _MICROS,
    "event": pl.String,
    "product_id": pl.String,
    "quantity": pl.Int32,
    "price_minor": pl.Int64,
    "currency": pl.String,
    "is_bot": pl.Boolean,
    "counted": pl.Boolean,
    "kafka_partition": pl.Int32,
    "log_offset": pl.Int64,
    "item_index": pl.Int16,
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of `events` and of `event_items`, in the log's order: their columns are the tables'."""

    events: pl.DataFrame
    items: pl.DataFrame

    @property
    def by_table(self) -> dict[str, pl.DataFrame]:
        """Those of each table, in the order in which they are written."""
        return {"event_items": self.items, "events": self.events}

    def with_more(self, more: "Rows") -> "Rows":
        """Both, in the log's order."""
        if more.events.is_empty() and more.items.is_empty():
            return self
        return Rows(
            pl.concat([self.events, more.events]).sort("log_offset"),
            pl.concat([self.items, more.items]).sort("log_offset", "item_index"),
        )


async def take(connection: Connection, place: Place, offsets: Sequence[int] | None = None) -> Rows:
    """The rows that stand at a place, of these offsets or all."""
    events = await _taken(connection, "events", EVENT_SCHEMA, place, offsets)
    items = await _taken(connection, "event_items", ITEM_SCHEMA, place, offsets)
    return Rows(events.sort("log_offset"), items.sort("log_offset", "item_index"))


async def _taken(
    connection: Connection,
    table: str,
    schema: Schema,
    place: Place,
    offsets: Sequence[int] | None,
) -> pl.DataFrame:
    parts: list[bytes] = []

    async def keep(part: bytes) -> None:
        parts.append(part)
        await asyncio.sleep(_NAP_S)

    await connection.copy_from_query(
        f"SELECT {', '.join(map(_written, schema, schema.values()))} FROM {table} "
        f"WHERE {AT_PLACE} AND ($7::int8[] IS NULL OR log_offset = ANY ($7))",
        *place.values,
        offsets,
        output=keep,  # a file would be written to on another thread, piece by piece
        format="csv",
    )
    return await asyncio.to_thread(_read, b"".join(parts), schema)


def _written(name: str, kind: object) -> str:
    """Instants as seconds: a date and time would take longer to read."""
    return f"extract(epoch FROM {name})" if kind == _MICROS else name


def _read(csv: bytes, schema: Schema) -> pl.DataFrame:
    """A NULL is written as nothing, an empty text as a pair of quotes, and so they are read."""
    if not csv:
        return pl.DataFrame(schema=schema)
    as_text: tuple[Kind, ...] = (_MICROS, pl.Boolean)
    written: Schema = {
        name: pl.String if kind in as_text else kind for name, kind in schema.items()
    }
    frame = pl.read_csv(csv, has_header=False, schema=written)
    return frame.with_columns(
        _parsed(name, kind) for name, kind in schema.items() if kind in as_text
    )


def _parsed(name: str, kind: object) -> pl.Expr:
    if kind == pl.Boolean:
        return pl.col(name) == "t"
    micros = (pl.col(name).cast(pl.Decimal(20, 6)) * 1_000_000).cast(pl.Int64)
    return micros.cast(_MICROS).alias(name)
