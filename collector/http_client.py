"""An HTTP/1.1 client for one peer, with a deadline for each exchange and a limit for responses.

One deadline covers connection, TLS handshake, request and response, on a monotonic clock; another
thread may move it forward. The standard library's client instead has a time limit for each read,
and reads interim responses without end. No proxy, redirect or environment variable is followed, and
no response is decompressed.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal, Protocol, TypeVar

from collector.errors import ConfigError
from collector.files import short_path

FAILURES = (OSError, ValueError)
"""The errors of an exchange: ``TimeoutError`` at the deadline, other ``OSError`` of the network,
and ``ValueError`` for a response that is malformed or too large."""

_POLL_SECONDS = 0.1
"""The longest wait of a system call before the deadline is checked again."""
_PIECE = 1 << 16
_MOST_BYTES = 1 << 17
"""The most bytes of a response, including the interim responses before it."""
_MOST_INTERIM = 16
_MOST_HEADERS = 100
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*)?").fullmatch
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII).fullmatch
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?").fullmatch
_ALWAYS = {"Accept-Encoding": "identity", "Connection": "keep-alive"}
_WITHOUT_BODY = frozenset({204, 304})
_SWITCHING = 101
_DEFAULT_PORTS = {"http": 80, "https": 443}
_T = TypeVar("_T")
Failure = Literal["refused", "timed_out", "tls", "network", "malformed"]
"""Why there is no response: nothing listens, the deadline has passed, TLS or the network failed, or
the response is not HTTP or too large."""


class Peer(Protocol):
    """Where to connect: ``scheme`` is ``http``, ``https`` or ``unix``; the last one has a ``path``,
    the others a ``host`` and a ``port``."""

    @property
    def scheme(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True, slots=True, repr=False)
class Response:
    """A response; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A peer given by its address alone."""

    scheme: str
    host: str = "localhost"
    port: int = 0
    path: Path = Path()


class HttpConnection:
    """An open connection. ``deadline`` returns the ``time.monotonic`` at which the current exchange
    must end. Raises ``FAILURES``."""

    def __init__(
        self, peer: Peer, context: ssl.SSLContext | None, deadline: Callable[[], float]
    ) -> None:
        self.is_reusable: bool = True
        self._deadline = deadline
        self._buffer = bytearray()
        self._received = 0
        self._sock = _connect(peer, deadline)
        try:
            if context is not None:
                secured = context.wrap_socket(
                    self._sock, server_hostname=peer.host, do_handshake_on_connect=False
                )
                self._sock = secured
                self._within(secured.do_handshake)
        except BaseException:
            self.close()
            raise

    def is_quiet(self) -> bool:
        """Return whether the connection is open, and no data has arrived since the last response:
        such data would be taken for the next response."""
        self._sock.settimeout(0)
        try:
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def exchange(self, head: bytes, body: bytes) -> Response:
        """Send a request and read its response. Afterwards, ``is_reusable`` says whether another
        exchange may follow."""
        self.is_reusable = False
        self._received = len(self._buffer)
        is_sent = self._send(head) and self._send(body)
        is_current, status, headers = self._head()
        text, is_delimited = self._body(status, headers)
        is_open = "close" not in headers.get("connection", "").lower()
        # A byte after the response would be read as the beginning of the next one.
        is_whole = is_sent and is_current and is_delimited and not self._buffer
        self.is_reusable = is_whole and is_open
        return Response(status, headers, text)

    def _within(self, operation: Callable[[], _T]) -> _T:
        """Retry a socket operation until it succeeds or the deadline has passed."""
        while True:
            self._sock.settimeout(min(_left(self._deadline), _POLL_SECONDS))
            with suppress(TimeoutError):
                return operation()

    def _send(self, data: bytes) -> bool:
        """Send all data. Returns ``False`` if the peer answers or closes the connection earlier: a
        receiver that refuses a body for its size does not read it to the end."""
        view = memoryview(data)
        while view:
            self._sock.settimeout(min(_left(self._deadline), _POLL_SECONDS))
            try:
                view = view[self._sock.send(view[:_PIECE]) :]
            except TimeoutError:
                if self._is_answered():
                    return False
            except ConnectionError:
                return False
        return True

    def _is_answered(self) -> bool:
        """Return whether the response has begun after the peer stopped reading the request."""
        self._sock.settimeout(0.001)
        with suppress(TimeoutError):
            self._fill_from(self._sock.recv(_PIECE))
            return True
        return False

    def _fill(self) -> None:
        self._fill_from(self._within(lambda: self._sock.recv(_PIECE)))

    def _fill_from(self, data: bytes) -> None:
        if not data:
            raise ConnectionError("the peer has closed the connection")
        self._received += len(data)
        if self._received > _MOST_BYTES:
            raise ValueError("the response is too large")
        self._buffer += data

    def _line(self) -> bytes:
        """Read the next line, without its end."""
        at = 0
        while (end := self._buffer.find(b"\n", at)) < 0:
            at = len(self._buffer)
            self._fill()
        return self._take(end + 1).rstrip(b"\r\n")

    def _take(self, number: int) -> bytes:
        while len(self._buffer) < number:
            self._fill()
        taken = bytes(self._buffer[:number])
        del self._buffer[:number]
        return taken

    def _head(self) -> tuple[bool, int, dict[str, str]]:
        """Read the head of the final response: whether it is HTTP/1.1, its status and headers."""
        for _ in range(_MOST_INTERIM):
            found = _STATUS(self._line())
            if found is None:
                break
            status, headers = int(found[2]), self._headers()
            if status >= 200:
                return found[1] == b"1", status, headers
            if status == _SWITCHING:
                break
        raise ValueError("the response does not begin with an HTTP status line")

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for _ in range(_MOST_HEADERS + 1):
            line = self._line()
            if not line:
                return found
            name, colon, value = line.decode("latin-1").partition(":")
            key, text = name.lower(), value.strip(" \t")
            if not colon or not name or name != name.strip():
                raise ValueError("a header of the response has no name")
            found[key] = f"{found[key]}, {text}" if key in found else text
        raise ValueError("the response has too many headers")

    def _body(self, status: int, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """Read the body; also return whether its end is delimited."""
        if status in _WITHOUT_BODY:
            return b"", True
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if coding is not None:
            if length is not None or coding.lower() != "chunked":
                raise ValueError("the body of the response has no clear end")
            return self._chunks(), True
        if length is not None:
            if not _NUMBER(length):
                raise ValueError("the length of the response is not a number")
            return self._take(int(length)), True
        with suppress(ConnectionError):
            while True:
                self._fill()
        return self._take(len(self._buffer)), False

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            found = _CHUNK(self._line())
            if found is None:
                raise ValueError("a chunk of the response has no size")
            size = int(found[1], 16)
            if not size:
                self._headers()  # trailers
                return b"".join(parts)
            parts.append(self._take(size))
            if self._line():
                raise ValueError("a chunk of the response does not end where it should")


class HttpClient:
    """Requests to one peer, over a connection that is kept as long as it is reusable.

    ``deadline`` is as for a connection; ``context`` is for TLS.
    """

    def __init__(
        self, peer: Peer, context: ssl.SSLContext | None, deadline: Callable[[], float]
    ) -> None:
        self.failure: Failure = "network"
        """Why the last exchange had no response."""
        self._peer, self._context, self._deadline = peer, context, deadline
        self._connection: HttpConnection | None = None

    def __repr__(self) -> str:
        return f"<HttpClient by {self._peer.scheme}>"

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Response | None:
        """Return the response to a request, or ``None`` if none arrives in time. If an open
        connection fails, the peer may have closed it meanwhile, so a new one is tried. Raises
        ``UnicodeError`` for anything but ASCII."""
        all_headers = {"Host": host_header(self._peer), **_ALWAYS, **headers}
        fields = "".join(f"{name}: {text}\r\n" for name, text in all_headers.items())
        length = "" if method == "GET" else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\n{fields}{length}\r\n".encode("ascii")
        was_open = self._connection is not None and self._connection.is_quiet()
        if not was_open:
            self.release()
        response = self._exchange(head, body)
        if response is None and was_open:
            response = self._exchange(head, body)
        return response

    def release(self) -> None:
        """Close the connection until the next exchange."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, head: bytes, body: bytes) -> Response | None:
        """Return the response, or ``None``. Close the connection unless it can be used again."""
        is_reusable = False
        try:
            if self._connection is None:
                self._connection = HttpConnection(self._peer, self._context, self._deadline)
            response = self._connection.exchange(head, body)
            is_reusable = self._connection.is_reusable
        except FAILURES as error:
            self.failure = _kind(error)
            return None
        finally:
            if not is_reusable:
                self.release()
        return response


def _kind(error: OSError | ValueError) -> Failure:
    """Return the kind of a failure, without its text, which may quote the peer."""
    if isinstance(error, ssl.SSLError):  # some are ``ValueError`` too
        return "tls"
    if isinstance(error, TimeoutError):
        return "timed_out"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "refused"
    return "network" if isinstance(error, OSError) else "malformed"


def host_header(peer: Peer) -> str:
    """Return the value of the header ``Host``."""
    host = f"[{peer.host}]" if ":" in peer.host else peer.host
    if peer.scheme == "unix" or peer.port == _DEFAULT_PORTS[peer.scheme]:
        return host
    return f"{host}:{peer.port}"


def tls(ca: Path | None, certificate: Path | None, key: Path | None = None) -> ssl.SSLContext:
    """Make a context for TLS 1.2 and later that checks host names. ``ca`` signs the peer's
    certificate, by default one of the system's authorities; ``certificate`` is the client's own,
    with its private key in the same file or in ``key``. The standard library's default context
    writes session keys to a file if an environment variable is set.

    Raises ``ConfigError`` E212 for a file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    name = "ca"
    with suppress(OSError, ValueError):  # ssl.SSLError is an OSError
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
        name = "certificate"
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        return context
    raise ConfigError("E212", f"the file of `{name}` cannot be used; it must be a PEM file")


def _left(deadline: Callable[[], float]) -> float:
    """Return the seconds until the deadline. Raises ``TimeoutError`` when it has passed."""
    left = deadline() - monotonic()
    if left <= 0:
        raise TimeoutError("the exchange took too long")
    return left


def _connect(peer: Peer, deadline: Callable[[], float]) -> socket.socket:
    """Connect to one of the host's addresses, which share the remaining time."""
    if peer.scheme == "unix":
        with short_path(peer.path) as path:
            return _connected(socket.AF_UNIX, path, _left(deadline))
    # Name resolution cannot be interrupted; the system has time limits for it.
    found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    for more, (family, *_, address) in zip(range(len(found) - 1, -1, -1), found, strict=True):
        try:
            sock = _connected(family, address, _left(deadline) / (more + 1))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            if not more:
                raise
        else:
            return sock
    raise OSError("the host has no address")


def _connected(family: int, address: object, seconds: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(address)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock
