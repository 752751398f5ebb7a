"""Every table, once: what the migrations make of a database, what roles are granted (`db.roles`),
and what tests compare a database with.

Two groups live in two metadatas, because they live in different databases: the *catalogue*
(merchants, keys, shard map) only in the first shard's, the *shard* tables in every shard's.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, TIMESTAMP, TSTZMULTIRANGE, UUID
from sqlalchemy.types import BigInteger, Boolean, Integer, SmallInteger, Text

catalogue = sa.MetaData()
shard = sa.MetaData()

Instant = TIMESTAMP(timezone=True)


def _required(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _now(name: str) -> sa.Column[Any]:
    return sa.Column(name, Instant, nullable=False, server_default=sa.text("now()"))


merchant = sa.Table(
    "merchant",
    catalogue,
    sa.Column("merchant_id", BigInteger, sa.Identity(always=False), primary_key=True),
    _required("name", Text()),
    sa.Column("timezone", Text, nullable=False, server_default="UTC"),
    sa.Column("currency", Text, nullable=False, server_default="EUR"),
    _now("created_at"),
    sa.Column("public_orders", Boolean, nullable=False, server_default=sa.text("true")),
    sa.Column("public_value_limit", BigInteger, nullable=False, server_default="10000000"),
)

api_key = sa.Table(
    "api_key",
    catalogue,
    sa.Column("key_id", BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("merchant_id", BigInteger, sa.ForeignKey("merchant.merchant_id"), nullable=True),
    sa.Column("name", Text, nullable=False, server_default=""),
    _required("key_hash", BYTEA()),  # SHA-256 of 256 random bits: no salt, no stretching needed
    _required("hint", Text()),  # the first characters, so that a person can tell keys apart
    _required("scopes", ARRAY(Text)),
    _now("created_at"),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
    sa.Column("origins", ARRAY(Text), nullable=False, server_default="{}"),  # for browsers
    sa.Column("last_used_at", Instant),
    sa.UniqueConstraint("key_hash", name="api_key_hash_unique"),
    sa.CheckConstraint(
        "merchant_id IS NOT NULL OR 'admin' = ANY (scopes)", name="api_key_has_an_owner"
    ),
)

key_audit = sa.Table(
    "key_audit",
    catalogue,
    sa.Column("audit_id", BigInteger, sa.Identity(always=True), primary_key=True),
    _now("at"),
    _required("key_id", BigInteger()),
    sa.Column("merchant_id", BigInteger),
    _required("action", Text()),
    _required("actor", Text()),
    sa.Column("detail", Text, nullable=False, server_default=""),
    sa.CheckConstraint("action IN ('created', 'rotated', 'revoked')", name="key_audit_action"),
)

installation = sa.Table(
    "installation",
    catalogue,
    sa.Column("only_one", Boolean, primary_key=True, server_default=sa.text("true")),
    _required("visitor_hash_key", BYTEA()),
    _now("created_at"),
    sa.Column("rotated_at", Instant),
    sa.CheckConstraint("only_one", name="installation_is_one"),
    sa.CheckConstraint("octet_length(visitor_hash_key) = 32", name="installation_key_length"),
)

shard_map = sa.Table(
    "shard_map",
    catalogue,
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    _required("shard", Integer()),  # index into FOOTFALL_SHARDS
)

shard_move = sa.Table(
    "shard_move",
    catalogue,
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "started_at", Instant, primary_key=True, nullable=False, server_default=sa.text("now()")
    ),
    _required("from_shard", Integer()),
    _required("to_shard", Integer()),
    _required("state", Text()),  # copying, switched, dropped; or cancelling, cancelled
    sa.Column("switched_at", Instant),
    sa.Column("ended_at", Instant),
)

events = sa.Table(
    "events",
    shard,
    _required("merchant_id", BigInteger()),
    _required("ts", Instant),
    _required("event", Text()),
    _required("visitor", BigInteger()),  # the first 64 bits of a fixed hash of visitor_id
    _required("visitor_register", SmallInteger()),
    _required("visitor_rank", SmallInteger()),
    sa.Column("session", BigInteger),
    sa.Column("event_id", Text),
    sa.Column("page", Text),
    _required("source", Text()),
    _required("channel", Text()),
    sa.Column("campaign", Text),
    sa.Column("utm_medium", Text),
    sa.Column("utm_term", Text),
    sa.Column("utm_content", Text),
    sa.Column("country", Text),
    _required("device", Text()),
    sa.Column("browser", Text),
    sa.Column("os", Text),
    _required("is_bot", Boolean()),
    sa.Column("value_minor", BigInteger),  # integer minor units of `currency`
    sa.Column("currency", Text),
    sa.Column("order_id", Text),
    _required("counted", Boolean()),  # false: a purchase whose order_id had been counted before
    _required("units", Integer()),
    sa.Column("properties", sa.JSON),
    _required("kafka_partition", Integer()),
    _required("log_offset", BigInteger()),
    _required("logged_at", Instant),  # the broker's time of append
    sa.Column("from_public_key", Boolean, nullable=False, server_default=sa.text("false")),
)

event_items = sa.Table(
    "event_items",
    shard,
    _required("merchant_id", BigInteger()),
    _required("ts", Instant),
    _required("event", Text()),
    _required("product_id", Text()),
    _required("quantity", Integer()),
    sa.Column("price_minor", BigInteger),
    sa.Column("currency", Text),
    _required("is_bot", Boolean()),
    _required("counted", Boolean()),
    _required("kafka_partition", Integer()),
    _required("log_offset", BigInteger()),
    _required("item_index", SmallInteger()),
)

rejected_event = sa.Table(
    "rejected_event",
    shard,
    _required("topic_id", Text()),
    _required("kafka_partition", Integer()),
    _required("log_offset", BigInteger()),
    _required("logged_at", Instant),
    sa.Column("merchant_id", BigInteger),
    sa.Column("event_id", Text),
    _required("reason", Text()),
    sa.Column("field", Text),
    _required("detail", Text()),
    sa.Column("raw", BYTEA),  # NULL only for a message that had no value (a tombstone)
    sa.Column("ts", Instant),  # event time where it was read and kept its bounds, else log time
)

duplicate_event = sa.Table(
    "duplicate_event",
    shard,
    _required("merchant_id", BigInteger()),
    _required("ts", Instant),
    _required("event_id", Text()),
    _required("kafka_partition", Integer()),
    _required("log_offset", BigInteger()),
    _required("logged_at", Instant),
)

first_order = sa.Table(
    "first_order",
    shard,
    sa.Column("merchant_id", BigInteger, primary_key=True, autoincrement=False),
    sa.Column("order_id", Text, primary_key=True),
    _required("ts", Instant),
    _required("kafka_partition", Integer()),
    _required("log_offset", BigInteger()),
    sa.Column("precedence", SmallInteger, nullable=False, server_default=sa.text("0")),
)

overtaken_order = sa.Table(
    "overtaken_order",
    shard,
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    sa.Column("log_offset", BigInteger, primary_key=True, autoincrement=False),
    _required("merchant_id", BigInteger()),
    _required("ts", Instant),
    sa.Column("overtaken_by", BigInteger, primary_key=True, autoincrement=False),
    _now("overtaken_at"),
)

ingest_offset = sa.Table(
    "ingest_offset",
    shard,
    sa.Column("topic", Text, primary_key=True),
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    _required("topic_id", Text()),
    _required("next_offset", BigInteger()),
    sa.Column("leader_epoch", Integer),
    # every event that the log held up to this instant of log time is in the tables
    sa.Column("applied_until", Instant),
    sa.Column("halted_reason", Text),
    sa.Column("replaced_at", Instant),  # when rows of this partition were last replaced
    # the shard in which the partition lives, where that is another: live ingest leaves this row be
    sa.Column("moved_to", Integer),
)

ingest_batch = sa.Table(
    "ingest_batch",
    shard,
    _required("topic_id", Text()),
    _required("kafka_partition", Integer()),
    _required("start_offset", BigInteger()),
    _required("end_offset", BigInteger()),  # half-open
    _required("messages", BigInteger()),  # fewer than the range where the log is sparse
    _required("event_rows", BigInteger()),
    _required("item_rows", BigInteger()),
    _required("rejects", BigInteger()),
    _required("duplicates", BigInteger()),
    sa.Column("min_ts", Instant),
    sa.Column("max_ts", Instant),
    _required("min_logged_at", Instant),
    _required("max_logged_at", Instant),
    _required("logic_version", Integer()),
    _now("committed_at"),
    # event time of all messages, rejects and repeats too: what a replay of a window must read
    sa.Column("first_ts", Instant),
    sa.Column("last_ts", Instant),
)

refresh_state = sa.Table(
    "refresh_state",
    shard,
    sa.Column("rollup", Text, primary_key=True),
    # batches whose transaction began before this instant can be seen in the rollup
    _required("refreshed_at", Instant),
    # batches whose transaction began before this instant are in it, or queued in refresh_day
    sa.Column("noted_at", Instant, nullable=False, server_default=sa.text("'2000-01-01Z'")),
    sa.Column("watermark", Instant),  # raw rows answer from here on; NULL: all do
)

# The UTC days that a rollup has yet to take in, and why that fails where it does.
refresh_day = sa.Table(
    "refresh_day",
    shard,
    sa.Column("rollup", Text, primary_key=True),
    sa.Column("day", Instant, primary_key=True),
    _required("since", Instant),  # batches that began before it have nothing to do with this line
    _required("logged_at", Instant),  # the log time of the first message that is missing
    _required("kafka_partitions", ARRAY(Integer)),  # whose messages are
    sa.Column("attempts", Integer, nullable=False, server_default="0"),
    sa.Column("failed_at", Instant),  # the first time; NULL: it has not failed
    sa.Column("retry_at", Instant),
    sa.Column("error", Text),
)

# The oldest logic by which any row of a partition and UTC day was made.
processed_day = sa.Table(
    "processed_day",
    shard,
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Date, primary_key=True),
    _required("logic_version", Integer()),
)

reprocess_run = sa.Table(
    "reprocess_run",
    shard,
    sa.Column("run_id", UUID, primary_key=True),
    _required("topic", Text()),
    _required("topic_id", Text()),
    _required("window_start", Instant),
    _required("window_end", Instant),
    sa.Column("merchant_id", BigInteger),  # NULL: all of them
    _required("logic_version", Integer()),
    sa.Column("max_change", sa.Double),  # a share: 0.2 holds back what changes a sum by more
    _required("misplaced", sa.Interval()),  # how far the old logic may have put events in time
    _required("sources", ARRAY(Text)),  # files that are read instead of the log
    _required("started_by", Text()),
    _required("reason", Text()),
    _required("state", Text()),  # running, done, cancelled
    _now("started_at"),
    sa.Column("ended_at", Instant),
)

reprocess_slice = sa.Table(
    "reprocess_slice",
    shard,
    sa.Column("run_id", UUID, sa.ForeignKey("reprocess_run.run_id"), primary_key=True),
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    sa.Column("window_start", Instant, primary_key=True),
    _required("window_end", Instant),
    _required("state", Text()),  # pending, held, replaced (rollups are to follow), done
    sa.Column("messages", BigInteger),
    sa.Column("rows_before", BigInteger),
    sa.Column("rows_after", BigInteger),
    sa.Column("rows_changed", BigInteger),
    sa.Column("columns_changed", sa.JSON),  # column -> rows in which it differs
    sa.Column("sums", sa.JSON),  # day -> measure -> [before, after], all merchants
    sa.Column("logic_before", Integer),
    sa.Column("changed", TSTZMULTIRANGE),  # hours whose rows changed
    sa.Column("detail", Text),
    sa.Column("replaced_at", Instant),
    sa.Column("done_at", Instant),
)

# The history of a number: one line for each sum that a slice changed.
reprocess_change = sa.Table(
    "reprocess_change",
    shard,
    sa.Column("run_id", UUID, primary_key=True),
    sa.Column("kafka_partition", Integer, primary_key=True, autoincrement=False),
    sa.Column("window_start", Instant, primary_key=True),
    sa.Column("merchant_id", BigInteger, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("measure", Text, primary_key=True),
    _required("before", BigInteger()),
    _required("after", BigInteger()),
)

# What `reprocess verify` saw of this shard, a line a look.
verification = sa.Table(
    "verification",
    shard,
    sa.Column("verification_id", UUID, primary_key=True),
    _now("verified_at"),
    _required("topic", Text()),
    _required("window_start", Instant),
    _required("window_end", Instant),
    sa.Column("merchant_id", BigInteger),  # NULL: all of them
    sa.Column("kafka_partition", Integer),  # NULL: all that live here
    _required("slices", Integer()),
    _required("messages", BigInteger()),
    _required("differences", BigInteger()),  # rows and rollup buckets that were not as they should
    _required("repaired", Boolean()),  # a look after a repair
)
