"""The HTTP receiver under TLS, where a connection cannot be closed in one direction only."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.ingest.limits import MIB
from tests.ingest.serving import Server, exchange, heard, serving
from tests.support.certificates import Authority
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.latency import at_most
from tests.support.rows import for_each

_EVENT = b'{"client":{"address":"203.0.113.7"},"os":{"type":"windows"}}'
_HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@dataclass
class Secured:
    """A receiver, and what its clients trust."""

    server: Server
    context: ssl.SSLContext

    def client(self) -> http.client.HTTPSConnection:
        """A client that checks the certificate."""
        port = self.server.port
        return http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=WAIT_SECONDS, context=self.context
        )

    def connect(self) -> ssl.SSLSocket:
        """A connection after its handshake."""
        return self.context.wrap_socket(self.server.connect(), server_hostname="127.0.0.1")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A receiver with a certificate."""
    with _secured(tmp_path_factory.mktemp("tls")) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One without much patience."""
    limits = {"header_seconds": 1.0, "body_seconds": 1.0}
    with _secured(tmp_path_factory.mktemp("hasty"), limits) as server:
        yield server


@contextlib.contextmanager
def _secured(folder: Path, limits: dict[str, float] | None = None) -> Iterator[Secured]:
    authority = Authority(folder)
    pair = authority.issue("server")
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    tls = [str(pair.certificate), str(pair.key)]
    with serving(folder, tls=tls, limits=limits or {}) as server:
        yield Secured(server, context)
    assert "Traceback" not in server.said()
    assert "no effect" not in server.said()


def test_a_connection_that_is_used_again(secured: Secured) -> None:
    client = secured.client()
    assert exchange(client, _EVENT).status == 200
    first = client.sock
    assert exchange(client, b"{").status == 400
    assert exchange(client, _EVENT).status == 200
    assert client.sock is first
    client.close()


def test_refused_half_way(secured: Secured) -> None:
    """The sender of a body that is too large hears so, although it is still sending."""
    client = secured.client()
    reply = exchange(client, bytes(9 * MIB))
    assert (reply.status, reply.code, reply.headers["connection"]) == (413, "E416", "close")
    assert exchange(client, _EVENT).status == 200
    client.close()


_ENDING = {
    b"\0\0\0": b"400",
    _HEAD + b"X: " + b"x" * 90_000: b"431",
    _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n": b"400",
    _HEAD + b"Content-Length: 10\r\n\r\n": b"408",
    _HEAD: b"408",
    _HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}": b"200",
}
"""What ends a connection, and the status of its last answer."""


@pytest.mark.timed
def test_what_ends_a_connection(secured: Secured, hasty: Secured) -> None:
    """Its last answer comes through, and then it is closed soon."""

    def ended(sent: bytes) -> tuple[bytes, bool]:
        began, answer = time.monotonic(), b""
        with (hasty if _ENDING[sent] == b"408" else secured).connect() as line:
            line.sendall(sent)
            with contextlib.suppress(ssl.SSLError):
                answer = heard(line)
        return answer.split()[1], time.monotonic() - began < at_most(4)

    with ThreadPoolExecutor(len(_ENDING)) as pool:
        found = [*pool.map(ended, _ENDING)]
    assert found == [(status, True) for status in _ENDING.values()]


def test_senders_that_go_away(secured: Secured) -> None:
    """In the middle of a handshake, of a head, of a body."""
    for sent in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"):
        with secured.server.connect() as plain:
            plain.sendall(sent)
    for sent in (b"", _HEAD, _HEAD + b"Content-Length: 10\r\n\r\n{"):
        with secured.connect() as line:
            line.sendall(sent)
    client = secured.client()
    assert exchange(client, _EVENT).status == 200
    client.close()


_MANY = 200
"""More than there may be at once."""
_LINE = _HEAD.replace(b"events", b"nothing") + b"Content-Length: 3000000\r\n\r\n" + bytes(1_000_000)
_HELLO = b"".join(
    b"\x16\x03\x01\x3e\x80" + part
    for part in (b"\x01\x01\xfb\xd0\x03\x03" + bytes(15_994), *[bytes(16_000)] * 6)
)
"""Seven records of a client's first message, of which more is to come."""


@for_each("is_shaking", [True, False])
def test_what_many_connections_take(is_shaking: bool, tmp_path: Path) -> None:
    """The event loop keeps what it reads into for each, as long as it is open, and also before the
    end of its handshake: so it has a bound."""
    with _secured(tmp_path) as secured, contextlib.ExitStack() as stack:
        began = secured.server.memory()
        for _ in range(_MANY):
            with contextlib.suppress(OSError):  # it is refused, or what it sends is not taken
                line = secured.server.connect() if is_shaking else secured.connect()
                stack.enter_context(line).settimeout(0.02)
                _send_at_once(secured.server, line, _HELLO if is_shaking else _LINE)
        wait_until(lambda: _is_served(secured))  # when the first make way
        assert secured.server.memory() - began < 90 * MIB


def _is_served(secured: Secured) -> bool:
    """Whether a new client gets an answer."""
    client = secured.client()
    try:
        return exchange(client, _EVENT).status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def _send_at_once(server: Server, line: socket.socket, data: bytes) -> None:
    """Send something so that all of it is there when the server reads."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        line.sendall(data)
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_handshakes_are_counted_down(tmp_path: Path) -> None:
    limits = {"connections": 3, "header_seconds": 1.0}
    with _secured(tmp_path, limits) as secured:
        for said in (b"", b"\0", _HELLO[:30], _HELLO, _HEAD) * 4:
            with secured.server.connect() as line, contextlib.suppress(OSError):
                line.sendall(said)
                line.shutdown(socket.SHUT_WR)
                heard(line)
        lines = [secured.server.connect() for _ in range(3)]
        for line in lines:
            with line:
                line.sendall(_HELLO[:30])
                assert heard(line) == b""
        clients = [secured.client() for _ in range(3)]
        assert [exchange(client, _EVENT).status for client in clients] == [200] * 3
        for client in clients:
            client.close()
