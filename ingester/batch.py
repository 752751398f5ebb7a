"""The nouns of the pipeline."""

from dataclasses import dataclass, field
from typing import Final

import polars as pl

from db.ledger import Span
from events.batch import Messages, Processed


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one shard, with the spans they cover. Spans ride beside the data, untouched."""

    messages: Messages
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch and what came of it, ready to be loaded."""

    batch: Batch
    processed: Processed


# Stored purchases that lost their order to one of the batch.
NOTHING_OVERTAKEN: Final = pl.DataFrame(
    schema={"kafka_partition": pl.Int32, "ts": pl.Datetime("us", "UTC")}
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of messages in the tables: every message is a row, a reject or a repeat."""

    rows: pl.DataFrame
    items: pl.DataFrame
    rejects: pl.DataFrame
    repeated: pl.DataFrame
    overtaken: pl.DataFrame = field(default_factory=lambda: NOTHING_OVERTAKEN)
