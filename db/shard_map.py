"""Which shard each partition of the topic lives in: the catalogue's map."""

from typing import Final

import asyncpg

CHANGED: Final = (
    "which partition a merchant is in depends on their number, so its new events would not be "
    "found beside its old ones. Partitions cannot be added to a topic with history: see "
    "docs/runbooks/FootfallPartitionHalted.md"
)


async def shard_map(catalogue: asyncpg.Pool) -> dict[int, int]:
    """Partition to shard number, for every partition of the topic."""
    rows = await catalogue.fetch("SELECT kafka_partition, shard FROM shard_map")
    return {row["kafka_partition"]: row["shard"] for row in rows}
