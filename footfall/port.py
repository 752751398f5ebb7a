"""Whether a port is free: workers share theirs, and would share it with another server's."""

import socket


class PortTakenError(Exception):
    """Nobody can listen there."""


def check_port(host: str, port: int) -> None:
    """Return if a server can listen there.

    Raises:
        PortTakenError: another process does, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise PortTakenError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Another server may be there; "
            "FOOTFALL_API_PORT sets another port."
        ) from error
