"""What each worker of `footfall serve` runs. Only they load it: the process that keeps them does
without."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from granian.utils.proxies import wrap_asgi_with_proxy_headers

import footfall.shared_telemetry  # noqa: F401 - before any metric is made
from api.app import create_app
from footfall.environment import Environment, configure_logging
from footfall.loop import collect_rarely
from footfall.serve import DRAINING
from page.files import folders


def application() -> Any:
    """An ASGI application. Whom a request comes from is what a trusted proxy says, else the
    connection's other end."""
    configure_logging()
    environment = Environment.read()
    quietly = folders(lambda _: None)
    draining = Path(os.environ[DRAINING])
    settings = replace(
        environment.api_settings(),
        page_folders=quietly,
        draining_file=draining,
        shared_dir=draining.parent / "shared",  # the server's own folder, new at each start
    )
    app = create_app(settings)
    collect_rarely()
    if not environment.trusted_proxies:
        return app
    return wrap_asgi_with_proxy_headers(app, list(environment.trusted_proxies))
