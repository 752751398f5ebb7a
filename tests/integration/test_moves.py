"""When a shard's word on a partition is to be believed, while the partition moves."""

import asyncpg
import pytest

from db import moves
from db.pools import WRITER_SETTINGS, open_pool

PARTITION = 900  # of no topic


@pytest.mark.parametrize(
    ("state", "shard", "marked", "believed"),
    [
        (None, 0, False, True),  # never read
        (None, 1, False, False),  # the map names another
        ("copying", 0, True, True),  # about to leave, right until the map is turned
        ("switched", 0, True, False),  # it has left
        ("switched", 1, False, False),  # a replica that has not heard of its coming
        ("switched", 1, True, False),  # or not of its release
        ("dropped", 1, False, False),
    ],
)
async def test_a_shard_is_believed(
    shard: int, marked: bool, believed: bool, state: str | None, shards: list[str]
) -> None:
    catalogue = await open_pool(shards[0], WRITER_SETTINGS, size=1)
    try:
        await catalogue.execute("INSERT INTO shard_map VALUES ($1, 0)", PARTITION)
        if state is not None:
            move = await moves.begin(catalogue, PARTITION, 1)
            with pytest.raises(moves.MoveError):
                await moves.begin(catalogue, PARTITION, 1)
            if state != "copying":
                await moves.turn_map(catalogue, move)
                await moves.mark(catalogue, move, "dropped" if state == "dropped" else "switched")
        assert await moves.lives_in(catalogue, PARTITION, shard, marked=marked) is believed
    finally:
        await _forget(catalogue)


async def _forget(catalogue: asyncpg.Pool) -> None:
    for table in ("shard_map", "shard_move"):
        await catalogue.execute(f"DELETE FROM {table} WHERE kafka_partition = $1", PARTITION)
    catalogue.terminate()
