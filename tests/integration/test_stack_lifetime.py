"""`footfall stack` starts, says where, and leaves nothing behind, however it ends."""

import json
import signal
import sys
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from tests.processes import Process, footfall, wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="/proc, by which children are found, is Linux's"
)


def children(pid: int) -> set[int]:
    """All descendants of a process."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | children(int(child))
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of them that still run."""
    running = set()
    for pid in pids:
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
            running.add(pid)
    return running


def addresses(process: Process) -> dict[str, str]:
    """The line that scripts read."""
    process.wait_for("FOOTFALL_SHARDS", 90)
    line = next(line for line in process.lines if "FOOTFALL_SHARDS" in line)
    return dict(json.loads(line))


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    with footfall("stack", "--json", environment={"FOOTFALL_DATA_DIR": str(tmp_path)}) as process:
        said = addresses(process)
        with psycopg.connect(said["FOOTFALL_SHARDS"]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert AdminClient(
            {"bootstrap.servers": said["FOOTFALL_KAFKA_BOOTSTRAP"], "log_level": 0}
        ).list_topics(timeout=10)
        started = children(process.pid)
        assert len(started) >= 3  # node, java and its keeper
        process.send(signal.SIGINT)
        assert process.end(40) == 0, "\n".join(process.lines)
        assert not alive(started)


def test_killed_it_takes_its_children_with_it(tmp_path: Path) -> None:
    with footfall("stack", "--json", environment={"FOOTFALL_DATA_DIR": str(tmp_path)}) as process:
        addresses(process)
        started = children(process.pid)
        assert len(started) >= 3
        process.send(signal.SIGKILL)
        wait_until(lambda: not alive(started), 30, "children outlived their killed parent")
