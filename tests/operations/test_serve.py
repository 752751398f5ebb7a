"""`footfall serve` as a process: it ends when it is told to, and outlives its workers."""

import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from api.spool import Spool
from tests.conftest import World
from tests.oracle import read_log
from tests.processes import Process, footfall, free_port, wait_until
from tests.service import page_view


def environment(world: World, folder: Path, port: int) -> dict[str, str]:
    own = {"FOOTFALL_API_PORT": str(port), "FOOTFALL_DATA_DIR": str(folder)}
    return {**world.environment, **own, "FOOTFALL_TELEMETRY_PORT": str(free_port())}


def children(process: Process) -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(each) for each in listed.split()]


@pytest.mark.parametrize("after_s", [0.4, 0.8, 1.2, 1.6, 2.0, 2.5])
def test_it_ends_when_told_to_while_its_workers_start(
    world: World, tmp_path: Path, after_s: float
) -> None:
    own = environment(world, tmp_path, free_port())
    with footfall("serve", "--workers", "2", environment=own) as process:
        time.sleep(after_s)
        began = time.monotonic()
        process.send(signal.SIGTERM)
        process.end(20)
        assert time.monotonic() - began < 15


def test_a_worker_that_is_killed_is_replaced(world: World, tmp_path: Path) -> None:
    port = free_port()
    own = environment(world, tmp_path, port)
    with footfall("serve", "--workers", "2", environment=own) as process:
        process.wait_for("serving")
        before = children(process)
        workers = [each for each in before if is_worker(each)]
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: workers[0] not in children(process), 20, "it was not taken notice of")
        wait_until(lambda: len(children(process)) == len(before), 20, "it was not replaced")
        wait_until(lambda: answers(port), 20, "nobody answers")
        process.send(signal.SIGTERM)
        process.end(20)


def is_worker(pid: int) -> bool:
    return b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_a_second_server_on_a_port_says_so(world: World, tmp_path: Path) -> None:
    port = free_port()
    own = environment(world, tmp_path, port)
    with footfall("serve", environment=own) as first:
        first.wait_for("serving")
        with footfall("serve", environment={**own, "FOOTFALL_TELEMETRY_PORT": "0"}) as second:
            assert second.end(30) == 1
            told = "\n".join(second.lines)
        assert first.runs
        assert f"Cannot listen on 127.0.0.1:{port}" in told
        assert "FOOTFALL_API_PORT" in told


async def test_events_in_spools_that_nobody_holds_reach_the_log(
    world: World, tmp_path: Path
) -> None:
    """Of a worker that was killed, of more workers than now, of another port."""
    (merchant,) = world.merchants(1)
    places = [tmp_path / "spool" / place for place in ("9999", "9998")]
    spools = [Spool.take(place) for place in (places[0], places[0], places[1])]
    for number, spool in enumerate(spools):
        event = page_view(merchant_id=merchant, event_id=f"left-{number}")
        await spool.append([(str(merchant).encode(), json.dumps(event).encode())])
    for spool in spools:
        spool.close()
    port = free_port()
    own = environment(world, tmp_path, port)
    with footfall("serve", environment=own) as process:
        process.wait_for("serving")
        url = f"http://127.0.0.1:{port}/health/ready"
        wait_until(lambda: httpx.get(url).json()["spool"] == "empty", 30, "it is not empty")
        wait_until(
            lambda: not list((tmp_path / "spool").glob("*/*/*.segment")), 30, "segments are left"
        )
    assert logged(world) == {"left-0", "left-1", "left-2"}


def logged(world: World) -> set[str]:
    found = read_log(world.bootstrap, world.topic)
    return {json.loads(value or b"{}")["event_id"] for _, _, _, value in found}
