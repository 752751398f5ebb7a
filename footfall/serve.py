"""The API as a process: granian in front of the application."""

import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
from granian.constants import HTTPModes, Interfaces
from granian.server.mp import MPServer

from footfall.port import check_port
from page.files import folders
from stack.npm import say_to_stderr

DRAINING: Final = "FOOTFALL_DRAINING_FILE"  # from the server to its workers
# Of the whole server; a connection that sends no request for 30 seconds is closed.
CONNECTIONS: Final = 4096
STOP_WITHIN_S: Final = 30.0
OPEN_FILES: Final = 2 * CONNECTIONS
_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - where it listens is the operator's


class _DrainingServer(MPServer):
    """Goes unready before it goes: a connection that is made just as a listener closes is lost, so
    that SIGTERM first tells the proxies to make none, and ends the workers when they had time to
    hear it. SIGINT, or a second SIGTERM, ends them at once."""

    def __init__(self, drain_s: float, draining_file: Path, **given: Any) -> None:
        super().__init__(**given)
        self._drain_s, self._draining_file = drain_s, draining_file

    def signal_handler_interrupt(self, number: int = 0, *args: Any, **kwargs: Any) -> None:
        stop: Callable[[], None] = super().signal_handler_interrupt
        if number != signal.SIGTERM or not self._drain_s or self._draining_file.exists():
            stop()
            return
        self._draining_file.touch()
        timer = threading.Timer(self._drain_s, stop)
        timer.daemon = True
        timer.start()

    def _respawn_workers(self, *args: Any, **kwargs: Any) -> None:
        super()._respawn_workers(*args, **kwargs)
        if self.interrupt_signal:  # it came while the loop forgot why it woke
            self.main_loop_interrupt.set()

    def _stop_workers(self) -> None:
        """A worker that is starting does not hear the first signal, so it is sent again."""
        workers: list[Any] = self.wrks
        deadline = time.monotonic() + STOP_WITHIN_S
        while any(each.is_alive() for each in workers) and time.monotonic() < deadline:
            for each in workers:
                if each.is_alive():
                    each.terminate()
            for each in workers:
                each.join(0.5)
        stop: Callable[[], None] = super()._stop_workers
        stop()


def serve(
    host: str, port: int, workers: int, drain_s: float, telemetry: tuple[str, int] | None
) -> None:
    """Serve until stopped, and for `drain_s` seconds after SIGTERM.

    Args:
        telemetry: host and port where the telemetry of all workers together is served.

    Raises:
        PortTakenError: another process listens there.
    """
    check_port(host, port)
    folders(say_to_stderr)  # workers find the files made
    _allow_open_files()
    with tempfile.TemporaryDirectory(prefix="footfall-serve-") as folder:
        file = Path(folder, "draining")
        os.environ[DRAINING] = str(file)
        # Read by prometheus_client when it is first imported: by the workers, not before.
        values = Path(folder, "telemetry")
        values.mkdir()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(values)
        server = _DrainingServer(
            drain_s,
            file,
            target="footfall.application:application",
            address=host,
            port=port,
            workers=workers,
            factory=True,
            interface=Interfaces.ASGI,
            # The other modes wait for a first byte without a time-out.
            http=HTTPModes.http1,
            respawn_failed_workers=True,
            workers_kill_timeout=1,  # after `_stop_workers` has waited
            backlog=CONNECTIONS,  # by default as many are served at a time, shared by the workers
            log_enabled=False,
        )
        started = threading.Thread(
            target=_say_ready, args=(host, port, telemetry, values), daemon=True
        )
        server.on_startup(started.start)
        server.serve()


def _allow_open_files() -> None:
    """As many as the machine lets this user open: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _say_ready(host: str, port: int, telemetry: tuple[str, int] | None, values: Path) -> None:
    """One line, once a worker answers: the server's own start comes before its workers'."""
    asked = f"http://{'127.0.0.1' if host in _ANY else host}:{port}/health/live"
    while True:
        try:
            httpx.get(asked, timeout=5).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            if telemetry is not None:
                _serve_telemetry(telemetry, values)
            print(f"serving http://{host}:{port}", flush=True)  # noqa: T201 - the ready line
            return


def _serve_telemetry(where: tuple[str, int], values: Path) -> None:
    """The telemetry of all workers, on a port of its own that no proxy hands on."""
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector

    class Workers(Collector):
        """What the workers wrote; gauges of those that have died are left out."""

        def __init__(self) -> None:
            self._all = MultiProcessCollector(None, path=str(values))  # type: ignore[no-untyped-call]  # the library leaves it so

        def collect(self) -> Any:
            for file in values.glob("gauge_live*_*.db"):
                if not Path("/proc", file.stem.rpartition("_")[2]).exists():
                    file.unlink(missing_ok=True)
            return self._all.collect()  # type: ignore[no-untyped-call]  # the library leaves it so

    registry = CollectorRegistry()
    registry.register(Workers())
    host, port = where
    start_http_server(port, host, registry)
