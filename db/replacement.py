"""Replacing rows by rows that were made again, within one transaction of the caller.

Old rows and new ones are laid side by side in temporary tables, so that only what differs is
written: a replay that changes nothing writes nothing, and leaves compressed chunks alone.

The transaction is READ COMMITTED: an older snapshot would see none of the rows of a chunk that was
recompressed meanwhile, and delete nothing without a word.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from db.copier import ROW_ORDER, copy_rows
from db.history import Place
from db.pools import Connection
from db.windows import Window

# The names that `db.tables` has, whose library is slow to load; a test holds them together.
EVENT_COLUMNS: Final = (
    "merchant_id ts event visitor visitor_register visitor_rank session event_id page source "
    "channel campaign utm_medium utm_term utm_content country device browser os is_bot "
    "value_minor currency order_id counted units properties kafka_partition log_offset logged_at"
).split()
ITEM_COLUMNS: Final = (
    "merchant_id ts event product_id quantity price_minor currency is_bot counted "
    "kafka_partition log_offset item_index"
).split()
_TEXT: Final = {"properties": "properties::text"}  # json has no equality of its own


def _row(alias: str, columns: list[str]) -> str:
    """The columns of one side as a row that can be compared."""
    return f"({', '.join(f'{alias}.{_TEXT.get(name, name)}' for name in columns)})"


EVENT_ROW: Final = _row("held", EVENT_COLUMNS)

# Temporary tables go with the transaction: the embedded database's one session is everybody's.
_LAY_OUT: Final = """
SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
SET LOCAL work_mem = '128MB';
CREATE TEMP TABLE old_events (LIKE events) ON COMMIT DROP;
CREATE TEMP TABLE new_events (LIKE events) ON COMMIT DROP;
CREATE TEMP TABLE old_items (LIKE event_items) ON COMMIT DROP;
CREATE TEMP TABLE new_items (LIKE event_items) ON COMMIT DROP;
CREATE TEMP TABLE changed (log_offset int8, old_ts timestamptz, new_ts timestamptz, columns int8)
    ON COMMIT DROP
"""
_TAKE_EVENTS: Final = f"""
INSERT INTO old_events ({", ".join(EVENT_COLUMNS)})
SELECT {", ".join(EVENT_COLUMNS)} FROM events
 WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
   AND ($4::int8 IS NULL OR merchant_id = $4)
   AND log_offset >= $5 AND log_offset < $6 AND ($7::int8[] IS NULL OR log_offset = ANY ($7))
"""
_TAKE_ITEMS: Final = f"""
INSERT INTO old_items ({", ".join(ITEM_COLUMNS)})
SELECT {", ".join(ITEM_COLUMNS)} FROM event_items
 WHERE kafka_partition = $1 AND ts >= $2 AND ts < $3
   AND ($4::int8 IS NULL OR merchant_id = $4)
   AND log_offset >= $5 AND log_offset < $6 AND ($7::int8[] IS NULL OR log_offset = ANY ($7))
"""
# A bit for each column in which an old row and its new one differ.
_DIFFERING: Final = " | ".join(
    f"((o.{_TEXT.get(name, name)} IS DISTINCT FROM n.{_TEXT.get(name, name)})::int4::int8 << {bit})"
    for bit, name in enumerate(EVENT_COLUMNS)
)
_COMPARE: Final = f"""
INSERT INTO changed
SELECT coalesce(o.log_offset, n.log_offset), o.ts, n.ts,
       CASE WHEN o.ts IS NULL OR n.ts IS NULL THEN 0 ELSE {_DIFFERING} END
  FROM old_events AS o FULL JOIN new_events AS n ON n.log_offset = o.log_offset
 WHERE {_row("o", EVENT_COLUMNS)} IS DISTINCT FROM {_row("n", EVENT_COLUMNS)}
"""
_COMPARE_ITEMS: Final = f"""
INSERT INTO changed
SELECT DISTINCT ON (log_offset) log_offset, o.ts, n.ts, 0
  FROM (SELECT coalesce(o.log_offset, n.log_offset) AS log_offset
          FROM old_items AS o
          FULL JOIN new_items AS n ON n.log_offset = o.log_offset AND n.item_index = o.item_index
         WHERE {_row("o", ITEM_COLUMNS)} IS DISTINCT FROM {_row("n", ITEM_COLUMNS)}
         UNION SELECT log_offset FROM old_items GROUP BY log_offset, item_index HAVING count(*) > 1
       ) AS differing
  LEFT JOIN old_events AS o USING (log_offset) LEFT JOIN new_events AS n USING (log_offset)
 WHERE log_offset NOT IN (SELECT log_offset FROM changed)
"""
# What stands twice is like its new row each time, and yet wrong.
_COMPARE_DOUBLES: Final = """
INSERT INTO changed
SELECT DISTINCT log_offset, o.ts, n.ts, 0
  FROM (SELECT log_offset FROM old_events GROUP BY log_offset HAVING count(*) > 1) AS twice
  JOIN old_events AS o USING (log_offset) LEFT JOIN new_events AS n USING (log_offset)
 WHERE log_offset NOT IN (SELECT log_offset FROM changed)
"""
_COLUMNS: Final = f"""
SELECT {
    ", ".join(
        f"count(*) FILTER (WHERE columns & {1 << bit} <> 0) AS {name}"
        for bit, name in enumerate(EVENT_COLUMNS)
    )
}
  FROM changed WHERE columns <> 0
"""
_SUMMARY: Final = """
SELECT (SELECT count(*) FROM old_events) AS before, (SELECT count(*) FROM new_events) AS after,
       (SELECT count(*) FROM (SELECT DISTINCT log_offset FROM changed) AS each) AS changed,
       (SELECT count(*) FROM old_events WHERE log_offset IN (SELECT log_offset FROM changed))
           AS gone,
       (SELECT count(*) FROM (SELECT DISTINCT log_offset FROM changed WHERE new_ts IS NOT NULL)
            AS each) AS made,
       least(min(old_ts), min(new_ts), min(items.low)) AS first,
       greatest(max(old_ts), max(new_ts), max(items.high)) AS last
  FROM changed,
       (SELECT min(ts) AS low, max(ts) AS high FROM old_items
         WHERE log_offset IN (SELECT log_offset FROM changed)) AS items
"""
_HOURS: Final = """
SELECT range_agg(tstzrange(hour, hour + INTERVAL '1 hour'))
  FROM (SELECT DISTINCT date_bin('1 hour', ts, 'epoch') AS hour
          FROM changed, LATERAL (VALUES (old_ts), (new_ts)) AS times (ts)
         WHERE ts IS NOT NULL) AS hours
"""
_DELETE: Final = """
DELETE FROM events AS held USING changed
 WHERE held.kafka_partition = $1 AND held.ts >= $2 AND held.ts <= $3
   AND held.log_offset = changed.log_offset AND held.ts = changed.old_ts
"""
# Items that lost their event know its time themselves.
_DELETE_ITEMS: Final = """
DELETE FROM event_items AS held USING old_items AS old
 WHERE held.kafka_partition = $1 AND held.ts >= $2 AND held.ts <= $3
   AND held.log_offset = old.log_offset AND held.ts = old.ts
   AND old.log_offset IN (SELECT log_offset FROM changed)
"""
_INSERT: Final = """
INSERT INTO {table} ({columns})
SELECT {columns} FROM {made} AS made
 WHERE EXISTS (SELECT FROM changed WHERE changed.log_offset = made.log_offset)
"""


class ReplacementError(Exception):
    """The tables did not do as they were told, or are not what the ledger says: nothing stands."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How the new rows differ from the old."""

    before: int
    after: int
    changed: int  # events that differ, came or went
    gone: int  # old rows to delete
    made: int  # new rows to insert
    columns: dict[str, int]  # column -> events in which it differs
    hours: list[Window]  # whole ones, UTC, that hold any of them
    first: datetime | None
    last: datetime | None


async def lay_out(connection: Connection) -> None:
    """Make the temporary tables; they go when the transaction ends."""
    await connection.execute(_LAY_OUT)


async def take_old(
    connection: Connection, place: Place, offsets: list[int] | None = None
) -> list[int]:
    """Lay out the rows that stand at a place, of these offsets or all; the offsets taken so far, in
    order."""
    await connection.execute(_TAKE_EVENTS, *place.values, offsets)
    await connection.execute(_TAKE_ITEMS, *place.values, offsets)
    found: list[int] | None = await connection.fetchval(
        "SELECT array_agg(log_offset ORDER BY log_offset) FROM old_events"
    )
    return found or []


async def old_items(connection: Connection) -> list[int]:
    """The offsets of the old items laid out, one an item."""
    found: list[int] | None = await connection.fetchval(
        "SELECT array_agg(log_offset) FROM old_items"
    )
    return found or []


async def lay_new(connection: Connection, rows: pl.DataFrame, items: pl.DataFrame) -> None:
    """Lay the new rows beside the old, in the order in which live ingest writes them."""
    for table, frame in (("new_events", rows), ("new_items", items)):
        await copy_rows(connection, table, frame.sort(*ROW_ORDER))


async def recount_order(connection: Connection, place: Place, offset: int, counted: bool) -> None:
    """Lay out one event that stands elsewhere, and beside it the same event counted or not."""
    await connection.execute(_TAKE_EVENTS, *place.values, [offset])
    await connection.execute(_TAKE_ITEMS, *place.values, [offset])
    for made, held, columns in (
        ("new_events", "old_events", EVENT_COLUMNS),
        ("new_items", "old_items", ITEM_COLUMNS),
    ):
        listed = ", ".join(columns)
        again = ", ".join("$2" if name == "counted" else name for name in columns)
        await connection.execute(
            f"INSERT INTO {made} ({listed}) SELECT {again} FROM {held} WHERE log_offset = $1",
            offset,
            counted,
        )


async def compare(connection: Connection, *, doubled: bool) -> Changes:
    """Find what differs between the rows laid out; `changed` then holds it. `doubled` says whether
    any old row stands twice."""
    await connection.execute(_COMPARE)
    if doubled:
        await connection.execute(_COMPARE_DOUBLES)
    await connection.execute(_COMPARE_ITEMS)
    summary = await connection.fetchrow(_SUMMARY)
    columns = await connection.fetchrow(_COLUMNS)
    assert summary is not None  # noqa: S101 - aggregates without GROUP BY give exactly one row
    assert columns is not None  # noqa: S101
    return Changes(
        before=summary["before"],
        after=summary["after"],
        changed=summary["changed"],
        gone=summary["gone"],
        made=summary["made"],
        columns={name: count for name, count in columns.items() if count},
        hours=[(each.lower, each.upper) for each in await connection.fetchval(_HOURS) or []],
        first=summary["first"],
        last=summary["last"],
    )


async def delete_old(connection: Connection, partition: int, changes: Changes) -> None:
    """Delete the old rows that differ.

    Raises:
        ReplacementError: the server deleted another number of rows.
    """
    if changes.changed == 0:
        return
    bounds = (partition, changes.first, changes.last)
    await connection.execute(_DELETE_ITEMS, *bounds)
    gone = await connection.execute(_DELETE, *bounds)
    if gone != f"DELETE {changes.gone}":
        raise ReplacementError(f"{changes.gone} old rows differ, the server answered {gone}")


async def insert_new(connection: Connection, changes: Changes) -> None:
    """Insert the new rows that differ.

    Raises:
        ReplacementError: the server inserted another number of rows.
    """
    if changes.changed == 0:
        return
    for table, made_of, columns in (
        ("event_items", "new_items", ITEM_COLUMNS),
        ("events", "new_events", EVENT_COLUMNS),
    ):
        made = await connection.execute(
            _INSERT.format(table=table, made=made_of, columns=", ".join(columns))
        )
    if made != f"INSERT 0 {changes.made}":
        raise ReplacementError(f"{changes.made} new rows differ, the server answered {made}")


async def clear(connection: Connection) -> None:
    """Empty the temporary tables for the next pass of the same transaction."""
    await connection.execute("TRUNCATE old_events, new_events, old_items, new_items, changed")


async def replace_rejects(
    connection: Connection, topic_id: str, partition: int, old: list[int], new: pl.DataFrame
) -> None:
    """Rejects in the place of those that stood at these offsets."""
    await connection.execute(
        "DELETE FROM rejected_event "
        "WHERE topic_id = $1 AND kafka_partition = $2 AND log_offset = ANY ($3)",
        topic_id,
        partition,
        old,
    )
    named = new.select(pl.lit(topic_id).alias("topic_id"), pl.all())
    await copy_rows(connection, "rejected_event", named)


async def replace_repeats(
    connection: Connection, partition: int, old: list[int], new: pl.DataFrame
) -> None:
    """Repeats in the place of those that stood at these offsets."""
    await connection.execute(
        "DELETE FROM duplicate_event WHERE kafka_partition = $1 AND log_offset = ANY ($2)",
        partition,
        old,
    )
    await copy_rows(connection, "duplicate_event", new)
