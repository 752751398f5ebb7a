"""What each table, rollup and column that analysts read means, as the database itself says it.

Applied by every `footfall migrate`. `\\d+ events` in psql, and most SQL clients, show it.
"""

from typing import Final, cast

import psycopg
from psycopg import sql

from db.rollups import DAY, ROLLUPS, Rollup

_MONEY: Final = (
    "in minor units (cents) of the row's currency, by ISO 4217: JPY has none. Never add up several "
    "currencies"
)
_TIME: Final = "Event time, UTC: what the client says, else when the log received it"
_BUCKET: Final = "The start of the UTC hour or day"

TABLES: Final[dict[str, str]] = {
    "events": "One row for each event that was accepted. Leave out bots (NOT is_bot), and "
    "purchases whose order counts elsewhere (counted). Bound ts: each day is a chunk of its own",
    "event_items": "One row for each product of an event; product revenue is price_minor times "
    "quantity of counted purchases. Leave out bots (NOT is_bot)",
    "rejected_event": "One row for each message that is no event, with the rule that it broke",
    "ingest_offset": "The next offset to read of each partition of the topic",
    "ingest_batch": "The ledger: one row for each range of offsets that one transaction stored",
    "refresh_state": "Up to when each rollup holds what was stored",
    "refresh_day": "UTC days that a rollup has yet to compute again, and why where that fails",
    "reprocess_run": "One row for each run that computed history again",
    "reprocess_slice": "The parts of a run, each replaced in one transaction",
    "verification": "What each `reprocess verify` found, compared with the log",
}
_ABOUT_ROLLUPS: Final = {
    "traffic": "Events, orders, units and money by event and currency, without bots",
    "source": "Events, orders, units and money by where the event came from, without bots",
    "place": "Events, orders, units and money by country, without bots",
    "device": "Events, orders, units and money by device. The only rollup WITH bots: leave out "
    "device = 'bot'",
    "page": "Events, orders, units and money by page, without bots",
    "product": "Items by product, without bots. events counts lines, not events; value_minor is "
    "price times quantity. An order with two products is in two rows: do not add up orders",
    "visitor": "Sketches of distinct visitors, without bots. Never sum over rows or days: use "
    "visitor_estimate(count(*), sum(2.0 ^ -rank)) over max(visitor_rank) for each register",
    "session": "One row for each session and UTC day, without bots. A session across midnight has "
    "two rows",
    "session_summary": "Sessions by the quarter of an hour in which they began and by their first "
    "event, without bots",
}

COLUMNS: Final[dict[str, str]] = {
    "merchant_id": "The merchant; each one's rows are all in one shard",
    "ts": _TIME,
    "bucket": f"{_BUCKET}. A merchant's own days differ: compose them from hours",
    "event": "The event's name: page_view, add_to_cart, purchase, refund, …",
    "visitor": "The visitor_id, hashed with a key of this installation",
    "visitor_register": "Which of 4,096 registers the visitor falls into, for visitor_estimate",
    "visitor_rank": "HyperLogLog rank of the visitor, for visitor_estimate",
    "session": "The session_id, hashed; unique within a merchant",
    "event_id": "The client's id of the event; an id may be used for several events",
    "page": "The path of the url, without query and fragment",
    "source": "utm_source, else the click id's network, else the referrer's site, else (direct)",
    "channel": "Group of the source: Paid Search, Organic Search, Email, Referral, Direct, …",
    "campaign": "utm_campaign",
    "utm_medium": "utm_medium, as sent",
    "utm_term": "utm_term, as sent",
    "utm_content": "utm_content, as sent",
    "country": "ISO 3166 alpha-2 code, as sent or by address",
    "device": "desktop, mobile, tablet, tv, bot or unknown",
    "browser": "Family of the browser",
    "os": "Family of the operating system",
    "is_bot": "Whether it is a crawler's or a program's: leave these out",
    "value_minor": f"The event's value {_MONEY}. Of one event at a time: revenue is that of "
    "purchase, refunds are that of refund and are no revenue",
    "currency": "ISO 4217 code of the money in the row",
    "order_id": "The merchant's id of the order; counted says which purchase of it counts",
    "counted": "false for a purchase whose order_id counts elsewhere: leave it out of orders, "
    "units and money",
    "units": "Quantities, added up: of counted purchases in rollups",
    "properties": "Whatever else was sent, as JSON",
    "kafka_partition": "Partition of the topic",
    "log_offset": "Offset of the message in its partition; below zero for rows from files",
    "logged_at": "When the log received it, UTC",
    "from_public_key": "Whether it came by a public key, which anyone can send with",
    "product_id": "The merchant's id of the product",
    "quantity": "How many, at least 1",
    "price_minor": f"Price of one, {_MONEY}",
    "item_index": "Place in the event's list of items, from 0",
    "events": "Events; add up freely",
    "orders": "Counted purchases; add up freely within one rollup but the product one",
    "started": "Time of the session's first event of the day, UTC",
    "ended": "Time of the session's last event of the day, UTC",
    "page_views": "Events that are page_view",
    "carts": "Events that are add_to_cart",
    "checkouts": "Events that are begin_checkout",
    "purchases": "Events that are purchase, whether they count or not",
    "started_quarter": "Start of the quarter of an hour, UTC, in which the session began",
    "sessions": "Sessions; one across midnight UTC counts on both days",
    "bounces": "Sessions of a single event that is a page view",
    "duration_ms": "From first to last event of each session, milliseconds, added up",
    "sessions_with_cart": "Sessions with an add_to_cart",
    "sessions_with_purchase": "Sessions with a purchase",
    "topic": "Name of the topic",
    "topic_id": "Id of the topic: another one after it was created anew",
    "reason": "The rule that was broken; of a run, what its operator wrote",
    "field": "The field that broke it",
    "next_offset": "The first offset that is not stored yet",
    "leader_epoch": "Not used",
    "applied_until": "Everything that the log received before this instant, UTC, is stored",
    "halted_reason": "Why the partition is not read; NULL while it is",
    "replaced_at": "When rows were last replaced by a run, UTC",
    "moved_to": "The shard in which the partition lives now; NULL: this one",
    "start_offset": "First offset of the range",
    "end_offset": "End of the range, not included",
    "messages": "How many messages were read",
    "event_rows": "How many became rows of events",
    "item_rows": "How many rows of event_items they made",
    "rejects": "How many were rejected",
    "duplicates": "How many repeat an event and are not counted",
    "min_ts": "Earliest event time of the rows, UTC",
    "max_ts": "Latest event time of the rows, UTC",
    "first_ts": "Earliest event time of all messages, UTC",
    "last_ts": "Latest event time of all messages, UTC",
    "min_logged_at": "When the log received the first of them, UTC",
    "max_logged_at": "When the log received the last of them, UTC",
    "logic_version": "Version of the logic that made the rows",
    "committed_at": "When the transaction began, UTC",
    "rollup": "Name of the rollup",
    "refreshed_at": "Batches of before this instant, UTC, are in the rollup",
    "noted_at": "Batches of before this instant, UTC, are in the rollup or queued in refresh_day",
    "watermark": "From this instant on, UTC, questions read raw rows; NULL: all do",
    "day": "The UTC day",
    "since": "Batches of before this instant, UTC, are not concerned",
    "kafka_partitions": "Partitions whose messages are concerned",
    "attempts": "How often the refresh failed",
    "failed_at": "When it first failed, UTC; NULL: it did not",
    "retry_at": "When it is tried again, UTC",
    "error": "The server's message at the last failure",
    "run_id": "Id of the run",
    "window_start": "Start of the window of event time, UTC",
    "window_end": "End of the window of event time, UTC, not included",
    "max_change": "Share by which a sum may change before a slice is held back: 0.2 is 20 %",
    "misplaced": "How far the logic of before may have put events in time",
    "sources": "Files that were read instead of the log",
    "started_by": "Who started it",
    "state": "How far it is",
    "started_at": "When it was started, UTC",
    "ended_at": "When it ended, UTC; NULL: it has not",
    "rows_before": "Rows before",
    "rows_after": "Rows after",
    "rows_changed": "Rows that differ",
    "columns_changed": "How many rows differ in each column, as JSON",
    "sums": "Sums before and after, by day and measure, as JSON; money in minor units",
    "logic_before": "Version of the logic that had made the rows",
    "changed": "Hours whose rows changed",
    "detail": "What happened, in a sentence",
    "done_at": "When its rollups had followed, UTC",
    "verification_id": "Id of the look",
    "verified_at": "When it ended, UTC",
    "slices": "How many parts were compared",
    "differences": "Rows, orders, lines of the ledger and rollup buckets that differed",
    "repaired": "Whether it followed a repair",
}

_KNOWN: Final = """
SELECT relation.relname, coalesce(attribute.attname, ''),
       coalesce(CASE WHEN attribute.attname IS NULL THEN obj_description(relation.oid, 'pg_class')
                     ELSE col_description(relation.oid, attribute.attnum) END, '')
  FROM pg_class AS relation
  LEFT JOIN LATERAL (
       SELECT NULL::name AS attname, 0 AS attnum
       UNION ALL
       SELECT attname, attnum FROM pg_attribute
        WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped) AS attribute ON true
 WHERE relation.relnamespace = current_schema()::regnamespace AND relation.relname = ANY (%s)
"""
_ESTIMATE: Final = (
    "Distinct visitors from registers: visitor_estimate(count(*), sum(2.0 ^ -rank)) over the "
    "highest rank of each register in the range; within some per cent"
)


def relation_comments() -> dict[str, str]:
    """The text of each table and rollup, by name."""
    return TABLES | {rollup.name: _of_rollup(rollup) for rollup in ROLLUPS}


def apply_comments(connection: psycopg.Connection[object]) -> None:
    """Set the comments that are not as above; none is touched that is.

    Args:
        connection: in autocommit, of the tables' owner or a superuser.
    """
    relations = relation_comments()
    rows = connection.execute(_KNOWN, (list(relations),)).fetchall()
    for name, column, told in cast("list[tuple[str, str, str]]", rows):
        wanted = COLUMNS.get(column, "") if column else relations[name]
        if wanted and wanted != told:
            _comment(connection, name, column, wanted)
    connection.execute(
        sql.SQL("COMMENT ON FUNCTION visitor_estimate IS {}").format(sql.Literal(_ESTIMATE))
    )


def _comment(connection: psycopg.Connection[object], relation: str, column: str, text: str) -> None:
    rollups = {rollup.name for rollup in ROLLUPS}
    if column:
        what = sql.SQL("COLUMN {}.{}").format(sql.Identifier(relation), sql.Identifier(column))
    else:
        kind = sql.SQL("VIEW {}" if relation in rollups else "TABLE {}")
        what = kind.format(sql.Identifier(relation))
    connection.execute(sql.SQL("COMMENT ON {} IS {}").format(what, sql.Literal(text)))


def _of_rollup(rollup: Rollup) -> str:
    name = rollup.name.rpartition("_")[0]
    bucket = "UTC day" if rollup.bucket == DAY else "UTC hour"
    return f"{_ABOUT_ROLLUPS[name]}. By {bucket}"
