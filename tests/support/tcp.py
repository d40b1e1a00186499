"""TCP servers for tests, each in its own thread, that treat connections as a function says."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Behaviour = Callable[[socket.socket], object]

_SHARES = 16
"""A server listens a moment after its port was found free. So parallel test processes choose from
disjoint ports, and reuse none soon."""
_chosen = deque[int](maxlen=300)


def own_ports(ports: range) -> list[int]:
    """Return the ports that this process may choose."""
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    return [port for port in ports if port % _SHARES == share and port not in _chosen]


def choose_port(port: int) -> None:
    """Record that a port was chosen."""
    _chosen.append(port)


def free_port() -> int:
    """Return a port below the client ports: a client on such a port could connect to itself while a
    server is down."""
    while True:
        port = secrets.choice(own_ports(range(20_000, 32_000)))
        with suppress(OSError), socket.socket() as listening:
            listening.bind(("127.0.0.1", port))
            choose_port(port)
            return port


def is_refused(port: int) -> bool:
    """Whether nothing listens on a port; a server that is about to close answers with a reset."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


@contextmanager
def tcp_server(behave: Behaviour, *, receive_buffer: int | None = None) -> Iterator[int]:
    """Start a server on this machine that treats each connection in one way; yield its port.

    A connection is closed when ``behave`` returns or meets a failure of the network; at its end the
    server closes open connections.
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
