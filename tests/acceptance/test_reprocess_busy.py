"""History replaced on servers that do everything at once: live events come, late ones among them,
chunks are packed, rollups are refreshed."""

import os
import time
import uuid

import psycopg
import pytest

from footfall.simulate import DAY_MS, Shops
from tests import oracle
from tests.beside import Beside
from tests.conftest import World
from tests.history import applied, days, ingest, one, own_world, refreshed, reprocess
from tests.late import Late
from tests.processes import footfall, wait_until

pytestmark = [
    pytest.mark.native,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not os.environ.get("FOOTFALL_TEST_SHARDS"),
        reason="the embedded database does one thing at a time: name a TimescaleDB server in "
        "FOOTFALL_TEST_SHARDS",
    ),
]
DAYS_AGO = 10  # the policies pack chunks of more than a week


class Jobs(Beside):
    """Runs the database's own policies of some kinds, over and over."""

    def __init__(self, dsn: str, *kinds: str) -> None:
        super().__init__()
        self._dsn, self._kinds = dsn, list(kinds)
        self.done = 0
        self.refused: list[str] = []  # what a policy gave up, because others were at it

    def run(self) -> None:
        """Until the end."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            jobs = connection.execute(
                "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = ANY (%s)",
                (self._kinds,),
            ).fetchall()
            while not self.ended.is_set():
                for (job,) in jobs:
                    try:
                        connection.execute(f"CALL run_job({job})")
                    except psycopg.Error as error:
                        self.refused.append(str(error))
                    else:
                        self.done += 1
                    self.ended.wait(0.1)  # a policy that never rests would leave no turn to others


def test_a_replay_amid_everything_loses_and_doubles_nothing(bootstrap: str) -> None:
    with own_world(bootstrap, f"busy.{uuid.uuid4().hex[:8]}") as world:
        merchants = world.merchants(5)
        end = int(time.time() * 1000) - (DAYS_AGO - 1) * DAY_MS
        sent = world.write(iter(Shops(merchants, 21).messages(20_000, end - 2 * DAY_MS, end)))
        ingest(world, sent, "channel")
        window = days(-DAYS_AGO - 2, 2 - DAYS_AGO)
        packing = Jobs(world.shards[0], "policy_compression", "policy_columnstore")
        refreshing = Jobs(world.shards[0], "policy_refresh_continuous_aggregate")
        late, live = Late(world, merchants[0], end), Late(world, merchants[1], end + DAY_MS * 8)
        with footfall("ingest", environment=world.environment) as ingester:
            ingester.wait_for("assigned")
            with packing, refreshing, late, live:
                wait_until(lambda: packed(world) > 0, 60, f"nothing is packed: {packing.refused}")
                before = packing.done, refreshing.done
                told = reprocess(world, "run", *window, "--yes", "--json")
                after = packing.done, refreshing.done
            total = sent + late.sent + live.sent
            wait_until(lambda: applied(world) >= total, 90, "not all is applied")
            wait_until(lambda: refreshed(world), 90, "the rollups were not refreshed")
        assert told["rows_changed"] > 0
        assert late.sent > 0 < live.sent
        assert after[0] > before[0], packing.refused
        assert after[1] > before[1], refreshing.refused
        wrong = oracle.differences(
            oracle.truth(world.bootstrap, world.topic), world.shards, world.topic, merchants
        )
        assert wrong == [], oracle.describe(wrong)
        assert reprocess(world, "verify", *window, "--json")["agrees"]


def packed(world: World) -> int:
    """How many chunks of raw rows lie in the columnstore."""
    asked = (
        "SELECT count(*) FROM timescaledb_information.chunks "
        "WHERE hypertable_name = 'events' AND is_compressed"
    )
    return int(one(world.shards[0], asked))
