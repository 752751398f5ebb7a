"""Every board's every panel, against a shard with a week of shops in it, as an analyst asks it."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import psycopg
import pytest
import yaml

from dashboards.panels import POSTGRES, Board, Panel
from dashboards.write import BOARDS, FOLDER, text_of
from db.migrate import migrate
from ingester import telemetry
from tests import servers
from tests.operations.filled import DAYS, fill
from tests.processes import ROOT

PANELS = [
    pytest.param(panel, id=f"{name}: {panel.title}")
    for name, board in BOARDS.items()
    for panel in board.panels
    if panel.sql
]
MERCHANTS_BOARDS = ("merchants", "merchant", "revenue", "sources")
ROLLED_UP = [
    pytest.param(panel, id=f"{name}: {panel.title}")
    for name in MERCHANTS_BOARDS
    for panel in BOARDS[name].panels
]
CHOSEN = {"merchant": "1", "comparison": "1 day"}


@pytest.fixture(scope="module")
async def filled() -> Any:
    """A shard's DSN."""
    with servers.shards(1) as (dsn,):
        migrate([dsn], 1)
        await fill(dsn, 20_000)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT compress_chunk(show_chunks('events', older_than => now()))")
        yield dsn


@pytest.fixture
def analyst(filled: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that may do what Grafana's may."""
    with psycopg.connect(filled) as connection:
        connection.execute("SET LOCAL ROLE footfall_analyst")
        connection.execute("SET LOCAL default_transaction_read_only = on")
        yield connection
        connection.rollback()


def expanded(sql: str) -> str:
    """What Grafana sends: its macros and variables filled in."""
    now = datetime.now(UTC)
    bounds = {
        "From": (now - timedelta(days=DAYS)).strftime("'%Y-%m-%dT%H:%M:%SZ'"),
        "To": (now + timedelta(minutes=1)).strftime("'%Y-%m-%dT%H:%M:%SZ'"),
    }
    sql = re.sub(r"\$__time(From|To)\(\)", lambda found: bounds[found[1]], sql)
    sql = re.sub(r"\$(\w+)", lambda found: CHOSEN[found[1]], sql)
    assert "$" not in sql
    return sql


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_answers_with_rows(analyst: psycopg.Connection[Any], panel: Panel) -> None:
    began = time.perf_counter()
    cursor = analyst.execute(expanded(panel.sql))
    rows = cursor.fetchall()
    print(f"{panel.title}: {len(rows)} rows, {(time.perf_counter() - began) * 1000:.0f} ms")
    assert rows
    assert any(value is not None for row in rows for value in row)
    names = [column.name for column in cursor.description or ()]
    if panel.kind == "timeseries":
        assert names[0] == "time"
        assert all(isinstance(row[0], datetime) for row in rows)
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert {name for name, _ in panel.units} <= set(names)


@pytest.mark.parametrize("panel", ROLLED_UP)
def test_a_merchants_panel_reads_rollups(analyst: psycopg.Connection[Any], panel: Panel) -> None:
    """Raw chunks are read only beyond the rollups' watermark, by real-time aggregation."""
    assert not re.search(r"\bevents\s+WHERE|FROM\s+event", panel.sql), "it names the raw table"
    analyst.execute("RESET ROLE")
    old = analyst.execute(
        "SELECT chunk_name FROM timescaledb_information.chunks WHERE hypertable_name IN "
        "('events', 'event_items') AND range_end < now() - INTERVAL '2 days'"
    ).fetchall()
    assert len(old) > 3
    (plan,) = analyst.execute(
        "EXPLAIN (ANALYZE, FORMAT JSON) " + expanded(panel.sql)
    ).fetchone() or ("",)
    told = plan if isinstance(plan, list) else json.loads(plan)
    read = {node["Relation Name"] for node in _run(told[0]["Plan"]) if "Relation Name" in node}
    assert not read & {name for (name,) in old}


def _run(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that were run."""
    if node["Actual Loops"]:
        yield node
    for below in node.get("Plans", ()):
        yield from _run(below)


@pytest.mark.parametrize("name", BOARDS)
def test_a_variable_offers_what_there_is(analyst: psycopg.Connection[Any], name: str) -> None:
    for variable in BOARDS[name].variables:
        if variable.sql:
            assert ("1",) in [(str(v),) for (v,) in analyst.execute(expanded(variable.sql))]
        else:
            assert CHOSEN[variable.name] in variable.options


def test_an_analyst_cannot_change_anything_nor_see_what_was_rejected(
    analyst: psycopg.Connection[Any],
) -> None:
    for statement in ("DELETE FROM events", "SELECT raw FROM rejected_event", "TABLE api_key"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), analyst.transaction():
            analyst.execute(statement)


@pytest.mark.parametrize(("name", "board"), BOARDS.items())
def test_the_files_are_what_the_code_says(name: str, board: Board) -> None:
    file = FOLDER / f"{name}.json"
    assert file.read_text() == text_of(board), "run: python -m dashboards.write"
    assert len({each.uid for each in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap_and_name_known_sources(name: str) -> None:
    board = json.loads((FOLDER / f"{name}.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    sources = yaml.safe_load(
        (ROOT / "dashboards/provisioning/datasources/footfall.yaml").read_text()
    )["datasources"]
    uids = {source["uid"] for source in sources} | {"${shard}"}
    assert {panel["datasource"]["uid"] for panel in board["panels"]} <= uids
    assert [s["name"] for s in sources if s["type"] == POSTGRES] == ["shard-0", "shard-1"]


def test_what_prometheus_is_asked_for_is_told_by_the_code() -> None:
    for board in BOARDS.values():
        for panel in board.panels:
            for metric in re.findall(r"footfall_\w+", panel.expr):
                assert metric in telemetry_names(), metric


def telemetry_names(module: ModuleType = telemetry) -> set[str]:
    """The names of a module's series, an ingester's by default, as Prometheus has them."""
    import prometheus_client

    return {
        sample
        for collector in vars(module).values()
        if isinstance(collector, prometheus_client.metrics.MetricWrapperBase)
        for metric in collector.describe()
        for sample in (
            [metric.name + suffix for suffix in ("_bucket", "_sum", "_count")]
            if metric.type == "histogram"
            else [metric.name + ("_total" if metric.type == "counter" else "")]
        )
    }
