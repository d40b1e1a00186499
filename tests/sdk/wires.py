"""A wire between an application and a sidecar that records every byte, and can be cut or
blocked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.deadline import WAIT_SECONDS
from tests.support.tcp import tcp_server


class Wire:
    """Forwards connections to a port of this machine, ``to``. ``sent`` and ``answered`` are the
    bytes of each direction. While ``is_cut``, nothing passes; the next ``swallow`` responses with
    ``text`` in them are lost on their way back, with the connection. The wire is cut with that
    response of the number ``loses``, with none if it is 0."""

    def __init__(self, port: int) -> None:
        self.sent, self.answered = bytearray(), bytearray()
        self.is_cut = False
        self.swallow = 0
        self.loses = 0
        self.text = b""
        self.connections = 0
        self.to = port
        self.port = 0

    def join(self, near: socket.socket) -> None:
        """Forward a connection, unless the wire is cut."""
        self.connections += 1
        if self.is_cut:
            return
        with socket.create_connection(("127.0.0.1", self.to)) as far:
            back = threading.Thread(target=self._pass, args=(far, near, self.answered), daemon=True)
            back.start()
            self._pass(near, far, self.sent)
            back.join(WAIT_SECONDS)

    def _pass(self, source: socket.socket, target: socket.socket, seen: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                seen += data
                if seen is self.answered and self.swallow and self.text in data:
                    self.swallow -= 1
                    break
                if seen is self.answered and 0 < self.loses <= seen.count(self.text):
                    self.is_cut = True
                if self.is_cut:
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(port: int) -> Iterator[Wire]:
    """Start a wire to a port."""
    made = Wire(port)
    with tcp_server(made.join) as made.port:
        yield made


@contextmanager
def hung() -> Iterator[int]:
    """Start a server that accepts connections and never responds; yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]
