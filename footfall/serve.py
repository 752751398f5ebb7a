"""The API as a process: granian in front of the application."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
from granian.constants import Interfaces
from granian.server import Server
from granian.utils.proxies import wrap_asgi_with_proxy_headers

from api.app import create_app
from footfall.environment import Environment, configure_logging
from page.files import FILES, HERE, built
from stack.npm import PartMissingError, Say, say_to_stderr

_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - where it listens is the operator's


def application() -> Any:
    """What each worker runs: an ASGI application. Whom a request comes from is what a trusted proxy
    says, else the connection's other end."""
    configure_logging()
    environment = Environment.read()
    folders = _page_folders(lambda _: None)
    app = create_app(replace(environment.api_settings(), page_folders=folders))
    if not environment.trusted_proxies:
        return app
    return wrap_asgi_with_proxy_headers(app, list(environment.trusted_proxies))


def serve(host: str, port: int, workers: int) -> None:
    """Serve until stopped."""
    _page_folders(say_to_stderr)
    server = Server(
        "footfall.serve:application",
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
