"""Responses that are streams, over real sockets: whole, cut, unread, and closed in any case."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
import uvloop

from collector.config import Address
from collector.ingest.limits import IngestLimits
from collector.ingest.protocol import in_task
from collector.ingest.request import HttpRequest
from collector.ingest.responses import HttpResponse
from collector.server.http_receiver import HttpReceiver
from tests.ingest.serving import heard
from tests.support.deadline import WAIT_SECONDS, eventually, wait_until

_SIZE = 3_000_001
_PIECE = bytes(range(256)) * 1024
_BODY = (_PIECE * 12)[:_SIZE]


class Server:
    """A receiver on an event loop in a thread; its paths are the methods that begin with ``_a_``.
    ``closed`` has the name of each stream that was closed; ``asked`` counts bytes asked for."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.closed: list[str] = []
        self.asked = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._loop = loop or uvloop.new_event_loop()
        limits = IngestLimits(body_seconds=seconds)
        place = Address("127.0.0.1", self.port)
        self._receiver = HttpReceiver(in_task(self._handle), place, self._listening, limits)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._receiver.start())

    def _do(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_SECONDS)

    def stop(self, grace: float) -> None:
        """Stop the receiver."""
        self._do(self._receiver.stop(grace))

    def end(self) -> None:
        """Stop all of it."""
        self.stop(0.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()
        self._listening.close()

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        name = request.path.removeprefix("/")
        length = None if name.startswith(("chunked", "endless", "failing")) else _SIZE
        return HttpResponse(200, stream=self._stream(name), length=length)

    async def _stream(self, name: str) -> AsyncGenerator[bytes, None]:
        try:
            sizes = {"short": _SIZE - 1, "long": _SIZE + 1}
            left = sizes.get(name, _SIZE)
            while left > 0 and name not in ("endless", "stuck"):
                piece = _PIECE[: min(left, len(_PIECE))]
                left -= len(piece)
                self.asked += len(piece)
                yield b""
                yield piece
                if name == "failing":
                    raise RuntimeError("a value")
            yield b"x"[: name == "endless"]
            while name in ("endless", "stuck"):
                await asyncio.Event().wait()
        finally:
            self.closed.append(name)

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)

    def ask(self, name: str, method: str = "GET") -> socket.socket:
        """A new connection with a request on it."""
        line = self.connect()
        line.sendall(f"{method} /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return line

    def wait_closed(self, name: str) -> None:
        """Wait until a stream was closed."""
        wait_until(lambda: name in self.closed)


@pytest.fixture
def server() -> Iterator[Server]:
    """A receiver whose readers have plenty of time."""
    server = Server(WAIT_SECONDS)
    yield server
    server.end()


@pytest.fixture
def hasty() -> Iterator[Server]:
    """A receiver whose readers have half a second."""
    server = Server(0.5)
    yield server
    server.end()


def test_whole_streams_keep_the_connection(server: Server) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_SECONDS)
    for name in ("known", "chunked", "known"):
        client.request("GET", f"/{name}")
        response = client.getresponse()
        assert response.getheader("content-length") == (str(_SIZE) if name == "known" else None)
        assert response.read() == _BODY
        assert not response.will_close
    client.close()
    assert eventually(lambda: server.closed == ["known", "chunked", "known"])


def test_pipelined_streams(server: Server) -> None:
    """Come in their order."""
    with server.ask("known") as line:
        line.sendall(b"GET /chunked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        said = heard(line)
    assert said.count(_BODY) == 1  # the other is between the sizes of chunks
    assert said.endswith(b"\r\n0\r\n\r\n")


def test_http_1_0_has_no_chunks(server: Server) -> None:
    """The connection ends where the body does."""
    with server.connect() as line:
        line.sendall(b"GET /chunked HTTP/1.0\r\n\r\n")
        head, _, body = heard(line).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == _BODY


def test_head(server: Server) -> None:
    """Has the headers of the whole, asks for nothing, and keeps the connection."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_SECONDS)
    for name in ("known", "endless"):
        client.request("HEAD", f"/{name}")
        response = client.getresponse()
        assert response.read() == b""
        assert response.getheader("content-length") == (str(_SIZE) if name == "known" else None)
    client.request("GET", "/known")
    assert client.getresponse().read() == _BODY
    client.close()
    assert server.asked == _SIZE


@pytest.mark.parametrize("name", ["short", "long", "failing"])
def test_a_stream_that_is_not_whole_is_cut(server: Server, name: str) -> None:
    """The reader sees that; no more bytes come than were announced, and no message."""
    with server.ask(name) as line:
        head, _, body = heard(line).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert len(body) < _SIZE + (name == "failing")
    assert not body.endswith(b"0\r\n\r\n")
    assert b"a value" not in body
    assert eventually(lambda: server.closed == [name])


def test_a_reader_that_reads_nothing(hasty: Server) -> None:
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", hasty.port))
        line.sendall(b"GET /known HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        hasty.wait_closed("known")
    assert hasty.asked < 4 * _SIZE


class _Ahead(asyncio.SelectorEventLoop):
    """An event loop whose clock is so many seconds ahead."""

    seconds = 0.0

    def time(self) -> float:
        """The time of that clock."""
        return super().time() + self.seconds


def test_a_slow_reader_gets_it_all() -> None:
    loop = _Ahead()
    server = Server(30.0, loop)
    # The system takes little of it at a time: the server waits for its reader again and again.
    server._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", server.port))
        line.settimeout(WAIT_SECONDS)
        line.sendall(b"GET /known HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        size = 0
        while part := line.recv(1 << 16):
            size += len(part)
            loop.seconds = 45.0 * size / _SIZE
            time.sleep(0.001)
    server.end()
    assert size > _SIZE
    assert loop.seconds > 30.0


def _leave(line: socket.socket) -> None:
    line.close()


def _reset(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    line.close()


def _half_close(line: socket.socket) -> None:
    line.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [_leave, _reset, _half_close])
def test_a_reader_that_goes_away(server: Server, leave: Callable[[socket.socket], None]) -> None:
    """Ends a stream that waits for something to say, at once."""
    with server.ask("endless") as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200")
        leave(line)
        server.wait_closed("endless")


@pytest.mark.parametrize("leave", [_leave, _reset])
def test_a_reader_of_a_known_length_goes_away(
    server: Server, leave: Callable[[socket.socket], None]
) -> None:
    """In the middle of it."""
    with server.ask("known") as line:
        assert line.recv(4096)
        leave(line)
        server.wait_closed("known")


def test_half_closed_reader_gets_a_known_length(server: Server) -> None:
    """It has sent all that it wants to send."""
    with server.ask("known") as line:
        line.shutdown(socket.SHUT_WR)
        assert heard(line).endswith(_BODY[-1000:])


def test_a_stop_ends_endless_streams_at_once(server: Server) -> None:
    """They do not use up the time that others get to finish."""
    with server.ask("endless") as line, server.ask("endless") as other:
        for each in (line, other):
            assert each.recv(4096)
        began = time.monotonic()
        server.stop(WAIT_SECONDS)
        assert time.monotonic() - began < WAIT_SECONDS / 2
        assert not heard(line).endswith(b"0\r\n\r\n")
    assert eventually(lambda: server.closed == ["endless", "endless"])


def test_a_stop_lets_a_known_length_finish(server: Server) -> None:
    """Within the grace period."""
    with server.ask("known") as line:
        first = line.recv(1)
        stopping = threading.Thread(target=server.stop, args=(WAIT_SECONDS,))
        stopping.start()
        assert (first + heard(line)).endswith(_BODY[-1000:])
        stopping.join(WAIT_SECONDS)


def test_a_stop_cuts_what_does_not_finish(server: Server) -> None:
    """When the grace period is over."""
    with server.ask("stuck") as line:
        assert line.recv(4096).startswith(b"HTTP/1.1 200")
        server.stop(0.1)
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(4096) == b""
    assert eventually(lambda: server.closed == ["stuck"])
