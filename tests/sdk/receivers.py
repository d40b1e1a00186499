"""Receivers that never finish: each keeps a sender busy for as long as the sender lets it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import sleep

__all__ = ["ENDLESS", "PAUSE", "Behaviour", "receiver"]

Behaviour = Callable[[socket.socket], None]

PAUSE = 0.05
"""Seconds between two pieces: far below any time-out for a single read."""
_OK = b"HTTP/1.1 200 OK\r\n"


def _repeat(begin: bytes, piece: bytes, pause: float) -> Behaviour:
    """Read some of the request, send ``begin``, then ``piece`` for ever."""

    def behave(end: socket.socket) -> None:
        end.recv(1 << 16)
        end.sendall(begin)
        while True:
            end.sendall(piece)
            sleep(pause)

    return behave


def _never_read(end: socket.socket) -> None:
    while True:
        sleep(PAUSE)


def _trickle_body(end: socket.socket) -> None:
    """Send a body of which each byte comes late."""
    end.recv(1 << 16)
    end.sendall(_OK + b"Content-Length: 60000\r\n\r\n")
    while True:
        end.sendall(b"{")
        sleep(PAUSE)


def _read_slowly(end: socket.socket) -> None:
    """Read the request a few bytes at a time, and send nothing."""
    while end.recv(16):
        sleep(PAUSE)


ENDLESS: dict[str, Behaviour] = {
    "never reads": _never_read,
    "reads slowly": _read_slowly,
    "status line, a byte at a time": _repeat(b"HTTP/1.1 200 ", b"O", PAUSE),
    "body, a byte at a time": _trickle_body,
    "100 Continue, slowly": _repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n", PAUSE),
    "100 Continue, fast": _repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "103 Early Hints, slowly": _repeat(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", PAUSE),
    "headers, slowly": _repeat(_OK, b"X-A: b\r\n", PAUSE),
    "headers, fast": _repeat(_OK, b"X-A: b\r\n" * 1000, 0),
    "one header, fast": _repeat(_OK + b"X-A: ", b"b" * 1000, 0),
    "chunks, slowly": _repeat(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", PAUSE),
    "chunks, fast": _repeat(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 999, 0),
    "body until the connection closes": _repeat(_OK + b"\r\n", b"{" * 1000, 0),
    "handshake, a byte at a time": _repeat(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\3", PAUSE),
}
"""Receivers by what they do; the last one speaks TLS."""


@contextmanager
def receiver(behave: Behaviour) -> Iterator[int]:
    """Start a receiver on this machine that treats each connection in the same way; yield its
    port."""
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
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()
