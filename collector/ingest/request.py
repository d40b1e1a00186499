"""HTTP requests: the known headers of the head, and the body as it arrives.

A connection feeds the body. A handler limits its size, and gets it when it is complete. Headers
without a meaning here are skipped.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from collector.consent import SIGNALS, is_refusal
from collector.contracts import Form, Granted, Signal
from collector.ingest.decompression import ENCODINGS, Encoding
from collector.ingest.peers import forwarded
from collector.ingest.refusals import (
    INVALID_KEY,
    TOO_LARGE,
    UNKNOWN_SCHEMA,
    UNSUPPORTED_ENCODING,
    UNSUPPORTED_MEDIA_TYPE,
    Refusal,
    RequestRefused,
)
from collector.ingest.responses import EVENTS, Dialect, HttpResponse
from collector.preferences import Choices, choices_in


class Route(NamedTuple):
    """A path: the form of a body by its media type, and the signal of an OTLP path."""

    forms: Mapping[bytes, Form]
    signal: Signal | None = None


Body = bytes | Refusal | None
"""A whole body, why it is refused, or ``None`` if the sender is gone."""
Reserve = Callable[[int], object]
"""Reserves a number of further bytes for a body. Raises ``RequestRefused``: BUSY."""
_PROTOBUF = b"application/x-protobuf"


def _otlp(signal: Signal) -> Route:
    return Route({_PROTOBUF: signal, b"application/json": signal}, signal)


ROUTES: dict[str, Route] = {
    "/v1/events": Route({b"application/json": "json", b"application/x-ndjson": "ndjson"}),
    "/v1/records": Route({b"application/x-ndjson": "records"}),
    "/v1/logs": _otlp("logs"),
    "/v1/traces": _otlp("traces"),
    "/v1/metrics": _otlp("metrics"),
}

DOCUMENT_PATH = "/openapi.json"
GPC_PATH = "/.well-known/gpc.json"
"""The path of the statement on Global Privacy Control: https://www.w3.org/TR/gpc/."""

_KNOWN = frozenset(
    b"authorization collector-granted collector-kind collector-owner collector-schema"
    b" content-encoding"
    b" content-length content-type dnt expect host idempotency-key if-none-match last-event-id"
    b" origin range sec-fetch-dest sec-fetch-site sec-gpc user-agent x-forwarded-for"
    b" access-control-request-method".split()
)
_SIGNALS = tuple(name.encode() for name in SIGNALS)
_GRANTED = re.compile(rb"[a-z0-9_ -]*").fullmatch
_KEY = re.compile(rb"([0-9a-f]{32})|\"([0-9a-f]{32})\"", re.IGNORECASE).fullmatch
"""An idempotency key: quoted, as in the header's draft (draft-ietf-httpapi-idempotency-key-header),
or bare."""
_CHARSETS = frozenset([b"", b"utf-8", b"utf8", b"us-ascii"])


class HttpRequest:
    """A request of a connection.

    ``headers`` have lower-case names; unknown headers are left out. The only cookie that is read
    has a visitor's ``choices``. ``client`` is the address of the other end, ``None`` on a socket
    file. ``on_demand`` is called when the handler asks for the body, and ``on_taken`` with the
    number of bytes that the handler takes or never will take. ``spawn`` runs a task that ends with
    the server at the latest. ``keep_alive``, ``expects_continue``, ``takes_chunks`` and ``began``,
    the loop time at which the handler got it, are the connection's.
    """

    __slots__ = (
        *("_body", "_charset", "_client", "_fault", "_is_complete", "_is_read", "_limit"),
        *("_on_demand", "_on_taken", "_reserve", "_size", "_take", "_waiting"),
        *("began", "choices", "expects_continue", "headers", "is_closed", "keep_alive"),
        *("media_type", "method", "path", "query", "route", "spawn", "takes_chunks"),
    )

    def __init__(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        query: bytes = b"",
        client: str | None = None,
        on_demand: Callable[[], object] = bool,
        on_taken: Callable[[int], object] = bool,
        spawn: Callable[[Coroutine[Any, Any, None]], object] = asyncio.ensure_future,
        keep_alive: bool = True,
        expects_continue: bool = False,
        takes_chunks: bool = False,
    ) -> None:
        self.method: str = method
        self.path: str = path
        self.query: bytes = query
        self.route: Route | None = ROUTES.get(path)
        known: dict[bytes, list[bytes]] = {}
        cookies: list[bytes] = []
        for name, value in headers:
            if name == b"cookie":
                cookies.append(value)
            elif name in _KNOWN:
                known.setdefault(name, []).append(value.strip(b" \t"))
        self.headers: Mapping[bytes, list[bytes]] = known
        self.choices: Choices = choices_in(cookies) if cookies else None
        self.media_type: bytes
        self.media_type, self._charset = _content_type(known.get(b"content-type", ()))
        self.keep_alive: bool = keep_alive
        self.expects_continue: bool = expects_continue
        self.takes_chunks: bool = takes_chunks
        self.spawn: Callable[[Coroutine[Any, Any, None]], object] = spawn
        self.began: float = 0.0
        self.is_closed: bool = False
        self._client = client
        self._on_demand, self._on_taken = on_demand, on_taken
        self._body: list[bytes] = []
        self._size = 0  # bytes of it that have arrived
        self._is_complete = self._is_read = False
        self._fault: Refusal | None = None
        self._limit: int | None = None  # set when the handler asks for the body
        self._reserve: Reserve = bool
        self._take: Callable[[Body], object] | None = None  # until it is called
        self._waiting: asyncio.Task[Any] | None = None

    # -- the head

    def only(self, name: bytes) -> bytes | None:
        """Return the value of a header that occurs exactly once."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None

    @property
    def dialect(self) -> Dialect:
        """The form of the response."""
        if self.route is None or self.route.signal is None:
            return EVENTS
        return Dialect(self.route.signal, self.media_type == _PROTOBUF)

    def form(self, route: Route) -> Form:
        """Return the form of the body. Raises ``RequestRefused``: UNSUPPORTED_MEDIA_TYPE."""
        form = route.forms.get(self.media_type)
        if form is None or self._charset not in _CHARSETS:
            raise RequestRefused(UNSUPPORTED_MEDIA_TYPE)
        return form

    def encoding(self) -> Encoding | None:
        """Return the compression of the body, if any.

        Raises ``RequestRefused``: UNSUPPORTED_ENCODING, also for several encodings.
        """
        names = b",".join(self.headers.get(b"content-encoding", ())).lower()
        if names not in ENCODINGS:
            raise RequestRefused(UNSUPPORTED_ENCODING)
        return ENCODINGS[names]

    def idempotency_key(self) -> bytes | None:
        """Return the idempotency key, if there is one. Raises ``RequestRefused``: INVALID_KEY."""
        values = self.headers.get(b"idempotency-key", ())
        return key_of(values) if values else None

    def length(self) -> int:
        """Return the announced length of the body in bytes; 0 without an announcement."""
        length = self.only(b"content-length")
        return int(length) if length is not None and length.isdigit() else 0

    def is_for(self, hosts: Container[bytes]) -> bool:
        """Return whether the request is for one of the hosts (lower case, with or without a
        port)."""
        host = (self.only(b"host") or b"").lower()
        name, colon, port = host.rpartition(b":")
        bare = name if colon and (port.isdigit() or not port) and not name.endswith(b":") else host
        return host in hosts or bare in hosts

    def peer(self, hops: int) -> str | None:
        """Return the sender's address without its zone, or the one that ``hops`` trusted proxies
        report. ``None`` on a socket file, or with fewer proxies."""
        if hops <= 0:
            return self._client.partition("%")[0] if self._client else None
        lines = self.headers.get(b"x-forwarded-for", ())
        return forwarded([line.decode("latin-1") for line in lines], hops)

    def has_signal(self) -> bool:
        """Return whether the sender signals refusal of every optional purpose."""
        sent = (self.headers.get(name) for name in _SIGNALS)
        return any(is_refusal(values) for values in sent if values)

    def refuses(self) -> bool:
        """Return whether the sender refuses every optional purpose, by a signal or a cookie."""
        return self.choices is False or self.has_signal()

    def refused(self) -> frozenset[str]:
        """Return the names of purposes that a cookie refuses."""
        return self.choices if isinstance(self.choices, frozenset) else frozenset()

    def granted(self) -> Granted:
        """Return the purposes for which records may be used, if only some were granted to the
        sender's filter: names separated by spaces. A header in any other form grants none."""
        values = self.headers.get(b"collector-granted")
        if values is None:
            return None
        is_sound = len(values) == 1 and _GRANTED(values[0])
        return tuple(values[0].decode().split()) if is_sound else ()

    def schema(self, names: Container[bytes]) -> str | None:
        """Return the schema that the request names in the header ``Collector-Schema`` or as
        ``schema`` in the query; ``None`` if it names none.

        Raises ``RequestRefused``: UNKNOWN_SCHEMA, for a name that is not in ``names``, and for
        several different names.
        """
        asked = {*self.headers.get(b"collector-schema", ()), *_in_query(self.query)}
        if not asked:
            return None
        name: bytes = asked.pop()
        if asked or name not in names:
            raise RequestRefused(UNKNOWN_SCHEMA)
        return name.decode()

    def user_agent(self) -> str | None:
        """Return the ``User-Agent`` header."""
        agent = self.only(b"user-agent")
        return None if agent is None else agent.decode("latin-1")

    # -- the body

    @property
    def size(self) -> int:
        """The bytes of the stored head and of the waiting body."""
        values = sum(len(value) for values in self.headers.values() for value in values)
        return len(self.path) + len(self.query) + values + sum(map(len, self._body))

    @property
    def is_waiting(self) -> bool:
        """Whether received bytes of the body wait for a handler that has not asked for them."""
        return self._limit is None

    def read(self, limit: int, reserve: Reserve, take: Callable[[Body], object]) -> None:
        """Have ``take`` called once: with a body of at most ``limit`` bytes when it is complete, or
        with the reason why there is none: TOO_LARGE, BUSY, or the fault of the connection."""
        if self.length() > limit:
            take(TOO_LARGE)
            return
        waited = self._size
        self._limit, self._reserve, self._take = limit, reserve, take
        self._on_taken(waited)
        if self.is_closed or self._fault is not None:
            self._end(self._fault)
        elif self._is_counted(waited):
            self._on_demand()
            if self._is_complete:
                self.complete()

    def feed(self, part: bytes) -> int:
        """Add received bytes; return how many wait for a handler that has not asked for them."""
        self._size += len(part)
        if self._limit is None or (self._take is not None and self._is_counted(len(part))):
            self._body.append(part)
        return self._size if self._limit is None else 0

    def _is_counted(self, size: int) -> bool:
        """Reserve memory for received bytes; return false if this makes the body refused."""
        if self._limit is not None and self._size > self._limit:
            self._end(TOO_LARGE)
            return False
        try:
            self._reserve(size)
        except RequestRefused as error:
            self._end(error.refusal)
            return False
        return True

    def _end(self, body: Body) -> None:
        """Give the body, or why there is none, to the handler, once."""
        take, self._take = self._take, None
        self._body, self._reserve = [], bool
        if take is not None:
            take(body)

    def complete(self) -> None:
        """Note that the body is complete."""
        self._is_complete = True
        if self._take is not None:
            self._is_read = True
            self._end(self._body[0] if len(self._body) == 1 else b"".join(self._body))

    def fail(self, refusal: Refusal) -> None:
        """Have the handler refuse the request, because its body is late or faulty."""
        self._fault = refusal
        self._end(refusal)

    def close(self) -> None:
        """Note that the connection is closed, drop references to it, and cancel a task that waits
        for its turn."""
        self.is_closed = True
        self.drop()
        self._end(None)
        self._on_demand, self._on_taken, self.spawn = bool, bool, asyncio.ensure_future
        if self._waiting is not None:
            self._waiting.cancel()

    def drop(self) -> None:
        """Discard a body that no handler has asked for."""
        if self._limit is None:
            self._on_taken(self._size)
            self._body = []

    def must_close(self, limit: int) -> bool:
        """Return whether the connection must close after the response, because the rest of the body
        cannot be skipped: it broke off, is longer than ``limit``, or may never come because the
        sender waits for ``100 Continue``."""
        if self._is_read:
            return False
        return self._limit is not None or self.length() > limit or b"expect" in self.headers

    @contextmanager
    def waiting(self, task: asyncio.Task[Any] | None) -> Iterator[None]:
        """Cancel a task if the connection closes meanwhile."""
        self._waiting = task
        try:
            yield
        finally:
            self._waiting = None


def key_of(values: Sequence[bytes]) -> bytes:
    """Return the bytes of an idempotency key. Raises ``RequestRefused``: INVALID_KEY, also for
    several keys."""
    digits = _KEY(values[0]) if len(values) == 1 else None
    if digits is None:
        raise RequestRefused(INVALID_KEY)
    return bytes.fromhex((digits[1] or digits[2]).decode())


async def read_body(request: HttpRequest, limit: int, reserve: Reserve) -> bytes | None:
    """Read a body of at most ``limit`` bytes; ``None`` if the sender is gone.

    Raises ``RequestRefused``: TOO_LARGE, BUSY, or the fault of the connection.
    """
    found: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
    request.read(limit, reserve, partial(_resolve, found))
    body = await found
    if isinstance(body, Refusal):
        raise RequestRefused(body)
    return body


def _resolve(found: asyncio.Future[Body], body: Body) -> None:
    if not found.done():  # its task was cancelled
        found.set_result(body)


Respond = Callable[[HttpResponse | None], None]
"""Takes the response to a request, or ``None`` if the sender is gone. Called once, in the event
loop."""
Handler = Callable[[HttpRequest, Respond], object]
"""Responds to a request, now or later; it never raises."""


def _in_query(query: bytes) -> Iterator[bytes]:
    """Yield the values of ``schema`` in a query, however they are escaped."""
    if b"schema" not in query and b"%" not in query:
        return
    for member in query.split(b"&"):
        name, _, value = member.partition(b"=")
        if unquote_to_bytes(name) == b"schema":
            yield unquote_to_bytes(value)


def _content_type(values: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return media type and charset, in lower case, from a header that occurs once."""
    if len(values) != 1:
        return b"", b""
    media_type, *parameters = values[0].lower().split(b";")
    charset = b""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset":
            charset = value.strip().strip(b'"')
    return media_type.strip(), charset
