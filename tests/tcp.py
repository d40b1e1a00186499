"""TCP servers of tests that treat a connection as they are told, each in a thread of its own."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["Behaviour", "free_port", "share", "tcp_server"]

Behaviour = Callable[[socket.socket], object]
_PORTS = range(26_000, 32_000)
_returned = deque[int](maxlen=100)


def share(ports: range) -> range:
    """Return the ports that no other process of the same run of tests takes: each is bound some
    time after it was found free."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # One that takes the place of another that has ended has a higher number.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % count
    size = len(ports) // count
    return ports[number * size : (number + 1) * size]


def free_port() -> int:
    """Return a port below those of clients: one of these could connect to itself, where a server is
    away. It is none of those that were returned last."""
    while True:
        port = secrets.choice(share(_PORTS))
        with suppress(OSError), socket.socket() as listening:
            listening.bind(("127.0.0.1", port))
            if port not in _returned:
                _returned.append(port)
                return port


@contextmanager
def tcp_server(behave: Behaviour, *, receive_buffer: int | None = None) -> Iterator[int]:
    """Start a server on this machine that treats each connection in one way; yield its port.

    A connection is closed when ``behave`` returns or meets a failure of the network; the end of the
    server ends those that are open.
    """
    ends: list[socket.socket] = []

    def serve(end: socket.socket) -> None:
        with suppress(OSError), end:
            behave(end)

    def accept() -> None:
        with suppress(OSError):
            while True:
                end, _ = server.accept()
                ends.append(end)
                threading.Thread(target=serve, args=(end,), daemon=True).start()

    with socket.socket() as server:
        if receive_buffer is not None:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        server.bind(("127.0.0.1", 0))
        server.listen(128)
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()
