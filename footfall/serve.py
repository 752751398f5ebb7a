"""The API as a process: granian in front of the application."""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
from granian.constants import Interfaces
from granian.server.mp import MPServer
from granian.utils.proxies import wrap_asgi_with_proxy_headers

from api.app import create_app
from footfall.environment import Environment, configure_logging
from page.files import FILES, HERE, built
from stack.npm import PartMissingError, Say, say_to_stderr

_DRAINING: Final = "FOOTFALL_DRAINING_FILE"  # from the server to its workers
_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - where it listens is the operator's


def application() -> Any:
    """What each worker runs: an ASGI application. Whom a request comes from is what a trusted proxy
    says, else the connection's other end."""
    configure_logging()
    environment = Environment.read()
    folders = _page_folders(lambda _: None)
    draining = Path(os.environ[_DRAINING])
    settings = replace(
        environment.api_settings(),
        page_folders=folders,
        draining_file=draining,
        answers_dir=draining.parent / "answers",  # the server's own folder, new at each start
    )
    app = create_app(settings)
    if not environment.trusted_proxies:
        return app
    return wrap_asgi_with_proxy_headers(app, list(environment.trusted_proxies))


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


def serve(host: str, port: int, workers: int, drain_s: float) -> None:
    """Serve until stopped, and for `drain_s` seconds after SIGTERM."""
    _page_folders(say_to_stderr)
    with tempfile.TemporaryDirectory(prefix="footfall-serve-") as folder:
        file = Path(folder, "draining")
        os.environ[_DRAINING] = str(file)
        server = _DrainingServer(
            drain_s,
            file,
            target="footfall.serve:application",
            address=host,
            port=port,
            workers=workers,
            factory=True,
            interface=Interfaces.ASGI,
            log_enabled=False,
        )
        server.on_startup(
            lambda: threading.Thread(target=_say_ready, args=(host, port), daemon=True).start()
        )
        server.serve()


def _page_folders(say: Say) -> tuple[Path, ...]:
    """Where the files for browsers are. Without those made of npm packages the page has no chart
    and `footfall.js` is longer, which is no reason to answer nobody."""
    try:
        return (built(say), FILES, HERE)
    except PartMissingError as error:
        say(f"The page's chart is missing: {error}")
        return (FILES, HERE)


def _say_ready(host: str, port: int) -> None:
    """One line, once a worker answers: the server's own start comes before its workers'."""
    asked = f"http://{'127.0.0.1' if host in _ANY else host}:{port}/health/live"
    while True:
        try:
            httpx.get(asked, timeout=5).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            print(f"serving http://{host}:{port}", flush=True)  # noqa: T201 - the ready line
            return
