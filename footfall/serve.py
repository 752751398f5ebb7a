"""The API as a process: granian in front of the application."""

from granian.constants import Interfaces
from granian.server import Server
from litestar import Litestar

from api.app import create_app
from footfall.environment import Environment, configure_logging


def application() -> Litestar:
    """What each worker runs."""
    configure_logging()
    return create_app(Environment.read().api_settings())


def serve(host: str, port: int, workers: int) -> None:
    """Serve until stopped."""
    server = Server(
        "footfall.serve:application",
        address=host,
        port=port,
        workers=workers,
        factory=True,
        interface=Interfaces.ASGI,
        log_enabled=False,
    )
    server.on_startup(lambda: print(f"serving http://{host}:{port}", flush=True))  # noqa: T201 - the ready line
    server.serve()
