"""A process's telemetry and the health of its background tasks, on a port of their own."""

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from background.supervisor import TaskHealth

Health = Callable[[], dict[str, TaskHealth]]


def serve_telemetry(port: int, host: str, health: Health) -> None:
    """Answer `/metrics` in Prometheus' format and `/health` as JSON, on a thread of their own.

    `/health` is 200 with "ok", or 503 with "failing" while a background task fails.

    Raises:
        OSError: the port is taken.
    """
    metrics: Any = make_wsgi_app()

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        tasks = health()
        failing = any(each.state != "ok" for each in tasks.values())
        body = {
            "status": "failing" if failing else "ok",
            "tasks": {
                name: {"state": each.state, "failures": each.failures, "last_error": each.error}
                for name, each in tasks.items()
            },
        }
        status = "503 Service Unavailable" if failing else "200 OK"
        start(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    server = make_server(host, port, answer, ThreadingWSGIServer, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, daemon=True, name="telemetry").start()


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its parent's name
        """Say nothing of each scrape."""
