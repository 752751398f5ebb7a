"""What a pool says of servers that answer and are not the ones that are asked for."""

import pytest

from db.errors import kind_of
from db.pools import READER_SETTINGS, open_pool


async def test_a_server_that_has_another_part_than_asked_for_is_waited_for(shard: str) -> None:
    """As a primary that is still in recovery: before long it will be one."""
    joined = "&" if "?" in shard else "?"
    pool = await open_pool(f"{shard}{joined}target_session_attrs=standby", READER_SETTINGS, size=1)
    with pytest.raises(ConnectionError) as refused:
        await pool.fetchval("SELECT 1")
    assert kind_of(refused.value) == "transient"
    pool.terminate()
