"""Receivers that never finish. Each keeps a sender busy for as long as the sender allows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from threading import Event
from time import sleep

from tests.support.deadline import WAIT_SECONDS
from tests.support.tcp import Behaviour, tcp_server

PAUSE = 0.05
"""Seconds between two pieces: far below any time-out for a single read."""
_OK = b"HTTP/1.1 200 OK\r\n"


def _repeat(begin: bytes, piece: bytes, pause: float = PAUSE) -> Behaviour:
    """Read some of the request, send ``begin``, then ``piece`` for ever."""

    def behave(end: socket.socket) -> None:
        end.recv(1 << 16)
        end.sendall(begin)
        while True:
            end.sendall(piece)
            sleep(pause)

    return behave


def _never_read(end: socket.socket) -> None:
    Event().wait()


def _read_slowly(end: socket.socket) -> None:
    """Read the request a few bytes at a time, and send nothing."""
    while end.recv(16):
        sleep(PAUSE)


ENDLESS: dict[str, Behaviour] = {
    "never reads": _never_read,
    "reads slowly": _read_slowly,
    "status line, a byte at a time": _repeat(b"HTTP/1.1 200 ", b"O"),
    "body, a byte at a time": _repeat(_OK + b"Content-Length: 60000\r\n\r\n", b"{"),
    "100 Continue, slowly": _repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue, fast": _repeat(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "103 Early Hints, slowly": _repeat(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "headers, slowly": _repeat(_OK, b"X-A: b\r\n"),
    "headers, fast": _repeat(_OK, b"X-A: b\r\n" * 1000, 0),
    "one header, fast": _repeat(_OK + b"X-A: ", b"b" * 1000, 0),
    "chunks, slowly": _repeat(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "chunks, fast": _repeat(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 999, 0),
    "body until the connection closes": _repeat(_OK + b"\r\n", b"{" * 1000, 0),
    "handshake, a byte at a time": _repeat(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\3"),
}
"""Receivers by what they do; the last one speaks TLS."""


def receiver(behave: Behaviour) -> AbstractContextManager[int]:
    """Start a receiver on this machine that treats each connection in one way, and reads only as
    much as ``behave`` reads. Yields its port."""
    return tcp_server(behave, receive_buffer=4096)


def check_endless(
    check: Callable[[str, int], None], names: Collection[str] = tuple(ENDLESS)
) -> None:
    """Check a sender against all these receivers, by name and port, in parallel: it mostly
    waits."""
    with ThreadPoolExecutor(len(names)) as pool, ExitStack() as stack:
        ports = {name: stack.enter_context(receiver(ENDLESS[name])) for name in names}
        found = {name: pool.submit(check, name, port) for name, port in ports.items()}
        failed = {name: error for name in names if (error := found[name].exception(WAIT_SECONDS))}
    assert not failed, failed
