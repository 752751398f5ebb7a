"""With one shard away its merchants are told so, and all others get their answers."""

from pathlib import Path

from events.partitions import partition_of
from tests.conftest import PARTITIONS
from tests.processes import free_port
from tests.service import Service, page_view, serving


def shops_of_both(service: Service) -> tuple[int, int]:
    """A merchant of the first shard and one of the second: partitions are mapped in turn."""
    found: dict[int, int] = {}
    while len(found) < 2:
        merchant = service.merchant()
        found[partition_of(merchant, PARTITIONS) % 2] = merchant
    return found[0], found[1]


def test_a_shard_away_is_a_503_for_its_merchants_only(service: Service, tmp_path: Path) -> None:
    here, away = shops_of_both(service)
    for merchant in (here, away):
        service.send(merchant, page_view())
        service.wait_for_events(merchant, 1)
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    shards = {"FOOTFALL_SHARDS": f"{service.world.shards[0]} {nowhere}"}
    with serving(service.world, tmp_path, more=shards) as (half, _):
        for path in ("summary", "realtime", "events/e", "breakdown?dimension=page"):
            answer = half.call("GET", f"/v1/merchants/{away}/{path}", key=service.key(away))
            assert (answer.status_code, answer.json()["code"]) == (503, "shard_away"), path
            assert int(answer.headers["retry-after"]) > 0
        file = half.call(
            "GET",
            f"/v1/merchants/{away}/breakdown?dimension=page",
            key=service.key(away),
            headers={"Accept": "text/csv"},
        )
        assert file.status_code == 503
        answer = half.call("GET", f"/v1/merchants/{here}/summary", key=service.key(here))
        assert answer.status_code == 200
        assert answer.json()["totals"]["page_views"] == 1
        sent = half.call("POST", "/v1/events", key=service.key(away), json=page_view())
        assert sent.status_code == 202
