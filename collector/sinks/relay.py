"""Limit the size of a server's answers for a library that reads them without a limit.

The library connects to a port of this process, which relays bytes between it and the server and
counts the server's bytes. Beyond a limit, the relay cuts all connections before it reads more.
Encryption is between the library and the server. The relay reads only the head of a proxy request.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hmac import compare_digest
from time import sleep
from urllib.parse import urlsplit

_HOST = "127.0.0.1"
_PIECE = 1 << 16
_MOST_IDLE = 1 << 16
"""The most bytes that a server may send outside an exchange, mostly to close a connection."""
_MOST_HEAD = 1 << 16
"""The most bytes of the head of a proxy request."""
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 10.0
"""How often to look whether the relay was closed: on some systems, closing a socket does not end
``accept``."""
_PAUSE_SECONDS = 0.1
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
_USER = "collector"
_HOPS = (b"proxy-authorization:", b"proxy-connection:", b"connection:", b"keep-alive:")

Connect = Callable[[socket.socket], socket.socket]
"""Returns a connection to the server for a connection that the library opened. Raises ``OSError``,
and ``ValueError`` for a connection that is not the library's."""


class Exchange:
    """A question and its answer."""

    def __init__(self) -> None:
        self.is_cut: bool = False
        """Whether the answer was too long."""


class Relay:
    """Relays bytes between connections to its ``port`` and a server.

    Each question to the server is an ``exchange``. Outside an exchange the server can send little.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._ends = set[socket.socket]()
        self._exchanges = set[Exchange]()
        self._left = _MOST_IDLE
        self._is_closed = False
        self._process = os.getpid()
        self._listener = socket.create_server((_HOST, 0))
        self._listener.settimeout(_LOOK_SECONDS)
        threading.Thread(target=self._accept, daemon=True).start()

    def __repr__(self) -> str:
        return f"<Relay: {len(self._ends)} ends>"

    @property
    def port(self) -> int:
        """The port of this machine at which a library reaches the server."""
        return int(self._listener.getsockname()[1])

    @contextmanager
    def exchange(self, most: int) -> Iterator[Exchange]:
        """Let the server send ``most`` bytes during a block. Beyond that, cut all connections, and
        refuse new ones until the block ends."""
        found = Exchange()
        with self._lock:
            self._left = most + (self._left if self._exchanges else 0)
            self._exchanges.add(found)
        try:
            yield found
        finally:
            with self._lock:
                self._exchanges.discard(found)
                if not self._exchanges:
                    self._left = _MOST_IDLE

    def close(self) -> None:
        """Close all connections, and accept no more. In a forked process this does nothing, because
        both processes share the sockets."""
        if os.getpid() != self._process:
            return
        self._is_closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        """Close all connections."""
        with self._lock:
            ends = list(self._ends)
        _shut(*ends)

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # closed, or too many files are open
                sleep(_PAUSE_SECONDS)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Relay the bytes of a connection until both ends are closed."""
        with client, suppress(OSError, ValueError), self._open(client):
            server = self._connect(client)
            with server, self._open(server):
                for each in (client, server):
                    each.settimeout(None)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                questions = threading.Thread(target=_ask, args=(client, server), daemon=True)
                questions.start()
                _answer(server, client, self._take)
                questions.join()

    @contextmanager
    def _open(self, end: socket.socket) -> Iterator[None]:
        with self._lock:
            if self._left < 0:
                raise ConnectionRefusedError
            self._ends.add(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends.discard(end)

    def _take(self, number: int) -> bool:
        """Count bytes of a server; return whether it may have sent them."""
        with self._lock:
            self._left -= number
            if self._left >= 0:
                return True
            for each in self._exchanges:
                each.is_cut = True
        self._cut()
        return False


def _ask(client: socket.socket, server: socket.socket) -> None:
    """Relay the library's bytes. When the library closes its connection, close both ends, so that a
    server that goes on answering does not keep it open."""
    buffer = memoryview(bytearray(_PIECE))
    with suppress(OSError):
        while number := client.recv_into(buffer):
            server.sendall(buffer[:number])
    _shut(client, server)


def _answer(server: socket.socket, client: socket.socket, may: Callable[[int], bool]) -> None:
    """Relay the server's bytes until it ends or exceeds the limit."""
    buffer = memoryview(bytearray(_PIECE))
    try:
        while (number := server.recv_into(buffer)) and may(number):
            client.sendall(buffer[:number])
        client.shutdown(socket.SHUT_WR)
    except OSError:
        _shut(client, server)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _connected(host: str, port: int) -> socket.socket:
    """Connect to a server. If the system can, notice a broken connection within half a minute."""
    found = socket.create_connection((host, port), _CONNECT_SECONDS)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return found


def proxy() -> tuple[Relay, str]:
    """Create a relay that is an HTTP proxy for this process only; return it with its URL."""
    password = secrets.token_urlsafe(16)
    credentials = b"Basic " + b64encode(f"{_USER}:{password}".encode())
    relay = Relay(lambda client: _proxied(client, credentials))
    return relay, f"http://{_USER}:{password}@{_HOST}:{relay.port}"


def _proxied(client: socket.socket, credentials: bytes) -> socket.socket:
    """Connect to the server that a proxy request names. Forward an unencrypted request in the form
    that servers expect, as the only one of its connection."""
    client.settimeout(_CONNECT_SECONDS)
    head, rest = _head(client)
    first, *lines = head.split(b"\r\n")
    method, target, version = first.decode("ascii").split(" ")
    given = [line.split(b":", 1)[1].strip() for line in lines if line.lower().startswith(_HOPS[0])]
    if len(given) != 1 or not compare_digest(given[0], credentials):
        raise ValueError("the request is not of this process")
    if method == "CONNECT":
        parts = urlsplit(f"//{target}")
        server = _connected(parts.hostname or "", parts.port or 443)
        answer, question = b"HTTP/1.1 200 OK\r\n\r\n", rest
    else:
        parts = urlsplit(target)
        if parts.scheme != "http":
            raise ValueError("the request is for no server of HTTP")
        server = _connected(parts.hostname or "", parts.port or 80)
        path = target.removeprefix(f"http://{parts.netloc}") or "/"
        path = path if path.startswith("/") else f"/{path}"
        others = [line for line in lines if not line.lower().startswith(_HOPS)]
        line = f"{method} {path} {version}".encode()
        answer, question = b"", b"\r\n".join([line, *others, b"Connection: close", b"", rest])
    try:
        client.sendall(answer)
        server.sendall(question)
    except BaseException:
        server.close()
        raise
    return server


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    """Read the head of a request; return it and the bytes after it."""
    found = bytearray()
    while b"\r\n\r\n" not in found:
        piece = client.recv(_PIECE)
        if not piece or len(found) > _MOST_HEAD:
            raise ValueError("the request to the proxy has no end")
        found += piece
    head, _, rest = bytes(found).partition(b"\r\n\r\n")
    return head, rest
