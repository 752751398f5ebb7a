"""The country of a visitor's browser, by an address that is not kept."""

from pathlib import Path

import psycopg
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.service import Service, page_view, serving

SHOP = "https://shop.example"


def country_file(folder: Path) -> Path:
    """A file that knows one network in New Zealand and one whose code ISO does not."""
    writer = MMDBWriter(4)
    writer.insert_network(IPSet(["203.0.113.0/25"]), {"country": {"iso_code": "NZ"}})
    writer.insert_network(IPSet(["203.0.113.128/25"]), {"country": {"iso_code": "QQ"}})
    path = folder / "countries.mmdb"
    writer.to_db_file(str(path))
    return path


def test_a_browsers_country_is_told_by_its_address(service: Service, tmp_path: Path) -> None:
    more = {
        "FOOTFALL_COUNTRY_FILE": str(country_file(tmp_path)),
        "FOOTFALL_TRUSTED_PROXIES": "127.0.0.1 10.0.0.0/8",
    }
    with serving(service.world, tmp_path, more=more) as (behind_proxy, _):
        shop = behind_proxy.merchant()
        body = {"scopes": ["events:write"], "origins": [SHOP]}
        path = f"/v1/merchants/{shop}/keys"
        key = behind_proxy.call("POST", path, key=behind_proxy.admin, json=body).json()["key"]
        for visitor, address, said in (
            ("near", "203.0.113.7", {}),
            ("sly", "203.0.113.7, 198.51.100.1, 10.1.1.1", {}),  # only the proxy's word counts
            ("told", "203.0.113.7", {"country": "DE"}),
            ("nowhere", "203.0.113.200", {}),
        ):
            sent = behind_proxy.call(
                "POST",
                f"/v1/events?key={key}",
                key=None,
                json=[page_view(visitor_id=visitor, event=f"page_{visitor}", **said)],
                headers={"Origin": SHOP, "Content-Type": "text/plain", "X-Forwarded-For": address},
            )
            assert sent.json() == {"accepted": 1, "rejected": []}
        far = {"X-Forwarded-For": "203.0.113.7"}  # a shop's server, whose address says nothing
        behind_proxy.call(
            "POST",
            "/v1/events",
            key=behind_proxy.key(shop),
            json=page_view(event="page_server"),
            headers=far,
        )
        # A server says its visitor's address: it is resolved here and goes no further.
        behind_proxy.send(shop, page_view(event="page_of_ip", ip="203.0.113.9"))
        behind_proxy.wait_for_events(shop, 6)
    rows: list[tuple[str, str | None]] = []
    for dsn in service.world.shards:
        with psycopg.connect(dsn) as connection:
            rows += connection.execute(
                "SELECT event, country FROM events WHERE merchant_id = %s", (shop,)
            ).fetchall()
    assert dict(rows) == {
        "page_near": "NZ",
        "page_sly": None,
        "page_told": "DE",
        "page_nowhere": None,
        "page_server": None,
        "page_of_ip": "NZ",
    }
