"""A proxy in front of a PostgreSQL server. It speaks the protocol, and fails as broken servers
do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from time import sleep

from tests.support.deadline import WAIT_SECONDS
from tests.support.tcp import tcp_server

ECHO = b"canary-of-a-database"
"""A text in errors, beside what the client sent."""
MODES = ("away", "full", "denied", "internal", "redirect", "half", "slow", "garbage")
_STATES = {"full": b"53100", "denied": b"28P01", "internal": b"XX000", "data": b"22P02"}
_STATES["invented"] = b"MEET1"
_REDIRECT = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/\r\n\r\n" + ECHO
_SECURED = (80877103, 80877104)
"""The first packet of a client that requests encryption."""
_PIECE = 1 << 16
_MOST_ECHO = 2000
_SLOW_SECONDS = 0.2


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", 4 + len(body)) + body


def _error(state: bytes, sent: bytes) -> bytes:
    """Build an error that quotes what the client sent, as a server's DETAIL does."""
    quoted = ECHO + b": " + sent[:_MOST_ECHO].replace(b"\0", b" ")
    fields = {b"S": b"ERROR", b"V": b"ERROR", b"C": state, b"M": quoted, b"D": quoted, b"H": quoted}
    body = b"".join(name + text + b"\0" for name, text in fields.items())
    return _message(b"E", body + b"\0")


class PostgresProxy:
    """``mode`` says how connections fail, including open ones; "" if they do not."""

    def __init__(self, path: Path) -> None:
        self.mode, self.failed, self.port = "", 0, 0
        self._path = path

    def handle(self, client: socket.socket) -> None:
        """Forward a connection, or fail it."""
        if self.mode not in ("", "slow"):
            self._fail(client, first=True)
            return
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with server:
            try:
                server.connect(str(self._path))
            except OSError:  # the server is down
                return
            ended = Event()
            back = Thread(target=self._pump_back, args=(server, client, ended), daemon=True)
            back.start()
            with suppress(OSError):
                while piece := client.recv(_PIECE):
                    if self.mode == "slow":
                        sleep(_SLOW_SECONDS)
                    if self.mode not in ("", "slow"):
                        ended.set()
                        server.shutdown(socket.SHUT_RDWR)
                        back.join(WAIT_SECONDS)
                        self._fail(client, piece)
                        return
                    server.sendall(piece)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _pump_back(source: socket.socket, client: socket.socket, ended: Event) -> None:
        with suppress(OSError):
            while (piece := source.recv(_PIECE)) and not ended.is_set():
                client.sendall(piece)
        with suppress(OSError):  # also where the server has reset the connection
            if not ended.is_set():
                client.shutdown(socket.SHUT_RDWR)

    def _fail(self, client: socket.socket, sent: bytes = b"", *, first: bool = False) -> None:
        """Fail a connection that has just ``sent`` something, or is at its ``first`` packet."""
        mode, self.failed = self.mode, self.failed + 1
        if mode == "away":
            return
        if first:
            sent = client.recv(_PIECE)
            while len(sent) == 8 and struct.unpack("!II", sent)[1] in _SECURED:
                client.sendall(b"N")
                sent = client.recv(_PIECE)
        if mode in _STATES:
            client.sendall(_error(_STATES[mode], sent))
            if not first:
                client.sendall(_message(b"Z", b"I"))
        elif mode == "redirect":
            client.sendall(_REDIRECT)
        elif mode == "garbage":
            client.sendall(_message(b"R", struct.pack("!I", 0)) + (ECHO + sent) * 100)
        elif mode == "half":
            client.shutdown(socket.SHUT_WR)
            while client.recv(_PIECE):
                pass


@contextmanager
def postgres_proxy(directory: Path, port: int = 5432) -> Iterator[PostgresProxy]:
    """Run a proxy for a block, in front of the server whose socket is in a directory."""
    made = PostgresProxy(directory / f".s.PGSQL.{port}")
    with tcp_server(made.handle) as made.port:
        yield made
