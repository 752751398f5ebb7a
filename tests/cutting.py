"""A way to a server that can be cut or blocked: what a network or a server's death does."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_RESET = struct.pack("ii", 1, 0)  # to linger not at all: the other end sees a reset


class Cutter:
    """Hands connections on to a server until told otherwise."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        assert parts.hostname is not None
        self._server = (parts.hostname, parts.port or 5432)
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        user = f"{parts.username}@" if parts.username else ""
        self.dsn = parts._replace(netloc=f"{user}127.0.0.1:{port}").geturl()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    end.shutdown(socket.SHUT_RD)
                end.close()
        return len(pairs)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Nothing passes, and nobody is told so."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server, 10)
            except OSError:
                return
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
                self.accepted += 1
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._hand_on, args=ends, daemon=True).start()

    def _hand_on(self, taken: socket.socket, given: socket.socket) -> None:
        with suppress(OSError):
            while True:
                self._open.wait()
                part = taken.recv(65_536)
                self._open.wait()
                if not part:
                    break
                given.sendall(part)
        with suppress(OSError):
            given.shutdown(socket.SHUT_WR)
