"""From decoded columns to the rows of `events` and `event_items`: today's processing logic.

A change of what these functions compute is a new LOGIC_VERSION and a reprocess.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from events import enrich
from events.amounts import minor_units
from events.batch import UTC_MICROS, Messages, Processed
from events.check import PUBLIC_KEY
from events.decode import decode, gap_frame
from events.enrich import Enrichment
from events.identity import VisitorHash, registers
from events.isolate import is_unexpected, isolated
from events.limits import Limits

LOGIC_VERSION: Final = 2
Only = Callable[[pl.DataFrame], pl.Series]

ROW_COLUMNS: Final = (
    "merchant_id ts event visitor visitor_register visitor_rank session event_id page source "
    "channel campaign utm_medium utm_term utm_content country device browser os is_bot "
    "value_minor currency order_id counted units properties kafka_partition log_offset logged_at "
    "from_public_key"
).split()
ITEM_COLUMNS: Final = (
    "merchant_id ts event product_id quantity price_minor currency is_bot counted "
    "kafka_partition log_offset item_index"
).split()


def process(
    messages: Messages, *, limits: Limits, enrichment: Enrichment, only: Only | None = None
) -> Processed:
    """Rows, items and rejects of a batch of messages; pure, and total over what they hold.

    As a last resort a message that makes the transform raise becomes a `transform_gap` reject. An
    error that a plain event meets too is not due to the messages, and is raised.

    Args:
        only: which events and rejects are wanted, by their `ts`, `merchant_id` and `log_offset`:
            a replay need not work out the others.
    """

    def attempt(part: Messages) -> Processed:
        return _process(part, limits, enrichment, only)

    def give_up(part: Messages, error: str) -> Processed:
        rejects = gap_frame(part, limits, f"the transform failed on it ({error})")
        none = attempt(part.take(np.empty(0, np.int64)))
        kept = rejects if only is None else rejects.filter(only(rejects))
        return Processed(none.rows, none.items, kept)

    try:
        return attempt(messages)
    except BaseException as error:
        if not is_unexpected(error):
            raise
        _process(_PLAIN, replace(limits, partitions=None), enrichment, only)
        return isolated(messages, error, attempt=attempt, give_up=give_up)


# Uses every step of the transform: where this one fails, the fault is not in the messages.
_PLAIN_EVENT: Final = (
    b'{"merchant_id":1,"event":"purchase","timestamp":"2026-01-01T00:00:00Z","event_id":"e",'
    b'"visitor_id":"v","session_id":"s","url":"https://shop.example/?utm_source=a%20b",'
    b'"referrer":"https://a.example/","user_agent":"Mozilla/5.0","ip":"192.0.2.1",'
    b'"value":"1.00","currency":"EUR","order_id":"o","properties":{"a":1},'
    b'"items":[{"product_id":"p","price":"1.00"}]}'
)
_PLAIN: Final = Messages(
    [_PLAIN_EVENT],
    np.zeros(1, np.int32),
    np.zeros(1, np.int64),
    np.full(1, 1_767_225_600_000, np.int64),
)


def _process(
    messages: Messages, limits: Limits, enrichment: Enrichment, only: Only | None
) -> Processed:
    decoded = decode(messages, limits)
    frame = _with_places(decoded.events, messages)
    rejects = decoded.rejects
    if only is not None:
        frame, rejects = frame.filter(only(frame)), rejects.filter(only(rejects))
    frame = enrich.split_url(frame)
    frame = enrich.campaign_parameters(frame)
    frame = enrich.traffic_source(frame)
    frame = enrich.user_agents(frame, enrichment.agents)
    frame = enrich.countries(frame, enrichment.countries)
    items = _items(frame)
    frame = _with_units(frame, items)
    return Processed(_rows(frame, enrichment.visitor_hash), items.select(ITEM_COLUMNS), rejects)


def _with_places(frame: pl.DataFrame, messages: Messages) -> pl.DataFrame:
    places = frame.get_column("place").to_numpy()
    return frame.with_columns(
        pl.Series("kafka_partition", messages.partitions[places], pl.Int32),
        pl.Series("log_offset", messages.offsets[places], pl.Int64),
        (pl.col("ts_ms") * 1000).cast(UTC_MICROS).alias("ts"),
        (pl.col("logged_ms") * 1000).cast(UTC_MICROS).alias("logged_at"),
        pl.lit(value=True).alias("counted"),
        pl.col("sent_by").eq_missing(pl.lit(PUBLIC_KEY)).alias("from_public_key"),
    )


def _items(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a product of an event; a top-level product_id is shorthand for one item."""
    common = [
        "place", "merchant_id", "ts", "event", "currency", "is_bot", "counted",
        "kafka_partition", "log_offset",
    ]  # fmt: skip
    listed = (
        frame.filter(pl.col("items").list.len() > 0)
        .select(*common, "items", pl.int_ranges(pl.col("items").list.len()).alias("item_index"))
        .explode("items", "item_index")
        .unnest("items")
    )
    single = frame.filter(
        pl.col("product_id").is_not_null() & (pl.col("items").list.len().fill_null(0) == 0)
    ).select(*common, "product_id", "quantity", price=pl.lit(None, pl.String), item_index=pl.lit(0))
    columns = [*common, "product_id", "quantity", "price", "item_index"]
    both = pl.concat(
        [
            part.select(columns).with_columns(pl.col("item_index").cast(pl.Int16))
            for part in (listed, single)
        ]
    )
    return both.with_columns(
        pl.col("quantity").fill_null(1).cast(pl.Int32),
        minor_units(pl.col("price"), pl.col("currency")).alias("price_minor"),
    )


def _with_units(frame: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    if items.is_empty():
        return frame.with_columns(pl.lit(0, pl.Int32).alias("units"))
    units = items.group_by("place").agg(pl.col("quantity").cast(pl.Int64).sum().alias("units"))
    return frame.join(units, on="place", how="left", maintain_order="left").with_columns(
        pl.col("units").fill_null(0).cast(pl.Int32)
    )


def _rows(frame: pl.DataFrame, visitor_hash: VisitorHash) -> pl.DataFrame:
    frame = visitor_hash.add(frame, "visitor_id", "visitor")
    frame = visitor_hash.add(frame, "session_id", "session")
    frame = frame.with_columns(
        pl.col("utm_campaign").alias("campaign"),
        minor_units(pl.col("value"), pl.col("currency")).alias("value_minor"),
    )
    register, rank = registers(frame.get_column("visitor").to_numpy())
    return frame.with_columns(
        pl.Series("visitor_register", register, pl.Int16), pl.Series("visitor_rank", rank, pl.Int16)
    ).select(ROW_COLUMNS)
