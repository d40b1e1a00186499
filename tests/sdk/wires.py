"""A wire between an application and a sidecar that records every byte, and can be cut or
blocked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.deadline import WAIT_SECONDS

__all__ = ["Wire", "hung", "wire"]


class Wire:
    """Forwards connections to a port of this machine. ``sent`` and ``answered`` are the bytes of
    each direction. While ``is_cut``, nothing passes; the next ``swallow`` responses with ``text``
    in them are lost on their way back, with the connection."""

    def __init__(self, port: int) -> None:
        self.sent, self.answered = bytearray(), bytearray()
        self.is_cut = False
        self.swallow = 0
        self.text = b""
        self.connections = 0
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self.connections += 1
                if self.is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._join, args=(near, far), daemon=True).start()

    def _join(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
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
    try:
        yield made
    finally:
        made.close()


@contextmanager
def hung() -> Iterator[int]:
    """Start a server that accepts connections and never responds; yield its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]
