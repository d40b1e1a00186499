"""HTTP/1.1 on httptools, hardened against slow, numerous and hostile senders.

A connection is always in one of three phases: between requests, in a head, or in a body. Each has a
deadline and a size limit. The handler is called with each head, asks for the body, and responds by
a callback: no task is needed for a request. The handler gets a fault in a body, and refuses the
request in its own format and in order. A fault before there is a request is refused here. After
either, no more input is parsed, and the connection is closed.

Closing lingers: closing a socket with unread input would reset the connection, and the sender might
never see why its request was refused. So the connection is half-closed, and input is discarded for
a moment.

A response may be a stream, which is sent in pieces. The next piece is asked for when the reader has
taken the earlier ones. Each must be taken within the deadline for reading responses.

This module logs nothing, and no part of a request is ever in a response.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Literal
from urllib.parse import unquote

import httptools

from collector.ingest.limits import IDLE_SECONDS, Connection, ConnectionLimiter
from collector.ingest.refusals import (
    BUSY,
    HEADERS_TOO_LARGE,
    INTERNAL_ERROR,
    MALFORMED,
    REQUEST_TIMEOUT,
    STOPPING,
    TOO_LARGE,
    TOO_MANY_CONNECTIONS,
    Refusal,
)
from collector.ingest.request import Handler, HttpRequest, Respond
from collector.ingest.responses import (
    BodyStream,
    HttpResponse,
    Observe,
    refusal_response,
    serialize,
)

Phase = Literal["between", "head", "body"]

_LINGER_SECONDS = 1.0
"""How long input is discarded after the last response."""
_FIRST_SECONDS = 2.5
"""How long a stopping server waits for the first request of a new connection: its sender may be
slow."""
_MAX_DISCARDED = 16 << 20
"""Bytes of input that are discarded; more input resets the connection."""
_PIECE = 64 << 10
"""Bytes that are parsed before limits are checked, and unread bytes that a body may buffer."""
_FRAMING_BYTES, _FRAMING_SHARE = 64 << 10, 4
"""Chunk sizes and extensions may take this many bytes plus a quarter of the body."""
_MAX_HEADERS = 200
"""In one request. As Python objects, short headers take twenty times the allowed bytes."""
_MAX_QUEUED = 8
"""Pipelined requests that may wait behind the one in progress; more are not read."""
_MOST_QUEUED = 16 << 10
"""Bytes of these requests and their heads: no budget counts them."""
_VERSIONS = ("1.1", "1.0")
_NEVER = float("inf")


def in_task(handler: Callable[[HttpRequest], Awaitable[HttpResponse | None]]) -> Handler:
    """Make a handler from a coroutine function, which runs in a task for each request."""

    async def run(request: HttpRequest, respond: Respond) -> None:
        try:
            response = await handler(request)
        except Exception:  # noqa: BLE001 - its message may hold a value
            response = refusal_response(INTERNAL_ERROR)
        respond(response)

    return lambda request, respond: request.spawn(run(request, respond))


class _StopParsing(Exception):
    """Ends the parsing of received input."""


class HardenedProtocol(Connection, asyncio.Protocol):
    """A connection with deadlines and limits.

    ``limiter`` counts all connections of a server; ``tasks`` has the running tasks of requests.
    ``observe`` gets every response.
    """

    def __init__(
        self,
        handler: Handler,
        limiter: ConnectionLimiter,
        tasks: set[asyncio.Task[None]],
        observe: Observe | None = None,
    ) -> None:
        super().__init__(limiter)
        self._handler, self._tasks = handler, tasks
        self._limits = limiter.limits
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._phase: Phase = "between"
        self._requests: deque[HttpRequest] = deque()  # not responded to; the first is in progress
        self._writable = asyncio.Event()
        self._writable.set()
        self._held: HttpResponse | None = None  # until the connection is writable
        self._answered: HttpRequest | None = None  # the last one
        self._ignore_input = self._is_closing = self._has_ended = self._read_paused = False
        self._deadline = self._write_deadline = _NEVER
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._hosts = self._head_size = self._raw_size = self._body_size = self._discarded = 0
        self._is_chunked = self._expects_continue = self._is_last = False
        self._stream: BodyStream | None = None  # the one being sent
        self._handshake: asyncio.Task[None] | None = None  # of TLS, until there is a transport

    # -- the connection

    def take(self, line: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take an accepted connection; with a context, begin the handshake.

        An encrypted connection counts from here on. If there are too many, it is closed without an
        answer.
        """
        if context is None:
            self._spawn(self._shake_hands(line, None))
            return
        if not self._admit():
            line.close()
            return
        self._handshake = self._loop.create_task(self._shake_hands(line, context))
        self._handshake.add_done_callback(partial(self._end_handshake, line))

    async def _shake_hands(self, line: socket.socket, context: ssl.SSLContext | None) -> None:
        with suppress(OSError):
            await self._loop.connect_accepted_socket(lambda: self, line, ssl=context)

    def _end_handshake(self, line: socket.socket, _: asyncio.Task[None]) -> None:
        if self._handshake is not None:  # no transport: the handshake failed or was cancelled
            self._handshake = None
            self.connection_lost(None)
            line.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit the connection, or refuse it if there are too many."""
        self._transport = transport
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if isinstance(peer, tuple) else None
        if self._handshake is not None:
            self._handshake = None
            transport.set_read_buffer_limits(_PIECE, _PIECE // 2)  # type: ignore[attr-defined]
            if self._is_closing:  # the handshake ended before the task was cancelled
                transport.abort()
            elif not self._is_last:
                self._deadline = self._loop.time() + self._limits.header_seconds
        elif not self._admit():
            self._ignore_input = True
            self._send_error(TOO_MANY_CONNECTIONS)

    def _admit(self) -> bool:
        now = self._loop.time()
        self._deadline = now + self._limits.header_seconds
        is_admitted = self._limiter.admit(self, self._loop)
        if is_admitted:
            self.start_waiting(now)
        return is_admitted

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what waits for the connection."""
        self._ignore_input = self._has_ended = self._is_closing = True
        self._limiter.remove(self)
        for request in self._requests:
            request.close()
        self._writable.set()
        self._send_held()
        self._cut_stream(is_gone=True)
        del self._parser  # it refers to this object

    def eof_received(self) -> bool | None:
        """Keep the connection if a response is due; the sender sends no more."""
        is_idle = self._phase == "between" and not self._requests
        if is_idle or self._closes() or self._is_tls:
            return None
        self._cut_stream()
        self._has_ended = True
        self._fail(MALFORMED)
        return True

    def shutdown(self) -> None:
        """Finish the response in progress, unless it is endless. A new connection may still send
        one request."""
        self._cut_stream()
        if self._requests:
            self._fail(STOPPING)
        elif self.is_proven or self._ignore_input or self._phase == "body":
            self._close()
        else:
            self._is_last = True
            self._deadline = min(self._deadline, self._loop.time() + _FIRST_SECONDS)

    def pause_writing(self) -> None:
        """Set a deadline for the sender to read responses."""
        self._write_deadline = self._loop.time() + self._limits.body_seconds
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on: the sender reads responses."""
        self._write_deadline = _NEVER
        self._writable.set()
        self._send_held()

    def check_deadline(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if now <= self._deadline and now <= self._write_deadline:
            return
        if self._handshake is not None or now > self._write_deadline or self._closes():
            self.abort()
        elif self._read_paused:  # the server is slow, not the sender
            self._deadline = now + self._limits.body_seconds
        elif self._phase == "between":
            self._close()
        else:
            self._fail(REQUEST_TIMEOUT)

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        if self._handshake is not None:
            self._handshake.cancel()
        else:
            self._transport.abort()

    def _closes(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def _close(self) -> None:
        """Close once everything is sent. If input may be unread, half-close and discard it."""
        if self._is_closing:
            return
        self._is_closing = self._ignore_input = True
        is_unread = self._phase != "between" and not self._has_ended
        seconds = _LINGER_SECONDS if is_unread else self._limits.body_seconds
        self._deadline = self._loop.time() + seconds
        self._resume_reading()
        if not is_unread:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()

    # -- input

    def data_received(self, data: bytes) -> None:
        """Parse the input piece by piece, up to the limits."""
        if self._ignore_input:
            self._discarded += len(data)
            if self._discarded > _MAX_DISCARDED:
                self.abort()
            return
        try:
            self._parse(memoryview(data) if len(data) > _PIECE else data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._ignore_input:
                self._fail(MALFORMED)
            self._start()

    def _parse(self, data: bytes | memoryview) -> None:
        while data and not self._ignore_input:
            if self._phase == "body":
                piece, data = data[:_PIECE], data[_PIECE:]
                self._raw_size += len(piece)
                self._parser.feed_data(piece)
                self._check_body_size()
                self._start()
                continue
            left = self._limits.header_bytes - self._head_size
            piece, data = data[:left], data[left:]
            self._head_size = size = self._head_size + len(piece)
            self._parser.feed_data(piece)
            if self._head_size == size >= self._limits.header_bytes:
                self._fail(HEADERS_TOO_LARGE)
            self._start()

    def _check_body_size(self) -> None:
        """Refuse a body that is too large, or mostly framing."""
        if self._phase != "body":
            return
        if self._body_size > self._limits.wire:
            self._fail(TOO_LARGE)
        elif self._raw_size - self._body_size > _FRAMING_BYTES + self._body_size // _FRAMING_SHARE:
            self._fail(MALFORMED)

    def on_message_begin(self) -> None:
        """Begin a head, at the first byte of a request."""
        if self._ignore_input:
            raise _StopParsing
        self._phase = "head"
        self._target, self._headers = b"", []
        self._hosts, self._is_chunked, self._expects_continue = 0, False, False
        if self.is_proven:  # the deadline of the first head is that of the connection
            now = self._loop.time()
            self._deadline = now + self._limits.header_seconds
            if not self._requests:
                self.start_waiting(now)

    def on_url(self, url: bytes) -> None:
        """Add a part of the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are passed over."""
        if self._phase == "body":
            return
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._is_chunked = True
            if value.strip().lower() != b"chunked":
                raise _StopParsing
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        if len(self._headers) >= _MAX_HEADERS:
            self._fail(HEADERS_TOO_LARGE)
            raise _StopParsing
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin the request, unless its head is ambiguous."""
        version = self._parser.get_http_version()
        is_current = version == "1.1"
        if version not in _VERSIONS or self._parser.should_upgrade():
            raise _StopParsing
        if self._hosts > 1 or (not self._hosts if is_current else self._is_chunked):
            raise _StopParsing
        url = httptools.parse_url(self._target)
        if not url.path or len(self._requests) > _MAX_QUEUED:
            raise _StopParsing
        path = url.path.decode("ascii")
        self._is_last |= not (is_current and self._parser.should_keep_alive())
        request = HttpRequest(
            self._parser.get_method().decode("ascii"),
            unquote(path) if "%" in path else path,
            self._headers,
            query=url.query or b"",
            client=self._client,
            on_demand=self._on_demand,
            on_taken=self._limiter.taken,
            spawn=self._spawn,
            keep_alive=not self._is_last,
            expects_continue=self._expects_continue,
            takes_chunks=is_current,
        )
        if self._requests and self._queued() + request.size > _MOST_QUEUED:
            raise _StopParsing  # earlier ones are answered, then the connection ends
        self._target, self._headers = b"", []
        self._requests.append(request)
        self._phase = "body"
        self._deadline = self._loop.time() + self._limits.body_seconds
        self._head_size = self._raw_size = self._body_size = 0
        if len(self._requests) > 1:
            self._pause_reading()

    def on_body(self, part: bytes) -> None:
        """Pass on a part of a body, unless the response has been sent already."""
        self._body_size += len(part)
        if not self._requests:
            return
        request = self._requests[-1]
        if request.is_waiting:
            is_queued = len(self._requests) > 1 and self._queued() + len(part) > _MOST_QUEUED
            if is_queued or not self._limiter.holds(len(part)):
                self._fail(BUSY)
                raise _StopParsing
        if request.feed(part) > _PIECE:
            self._pause_reading()

    def _queued(self) -> int:
        """Return the bytes of the requests behind the one in progress."""
        return sum(each.size for each in islice(self._requests, 1, None))

    def on_message_complete(self) -> None:
        """End a request: now the sender waits for the server."""
        self.is_proven = True
        self._phase = "between"
        self._head_size = 0
        self._deadline = _NEVER
        if self._is_last:
            self._ignore_input = True
        if self._requests:
            self.stop_waiting()
            self._requests[-1].complete()
        else:
            self._wait_for_request()

    # -- responses

    def _start(self) -> None:
        """Call the handler with the request in progress, unless that was done."""
        if self._requests and not self._requests[0].began:
            request = self._requests[0]
            request.began = self._loop.time()
            self._handler(request, partial(self._respond, request))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task. The server awaits or cancels it when it stops."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_demand(self) -> None:
        """Begin to read the body of the request in progress."""
        request = self._requests[0]
        if request.expects_continue and not self._closes():
            request.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume_reading()

    def _respond(self, request: HttpRequest, response: HttpResponse | None) -> None:
        """Send the response to the request in progress, once the reader has taken the earlier
        ones."""
        is_due = request is next(iter(self._requests), None) and request is not self._answered
        if response is None or not is_due:
            return
        if self._writable.is_set():
            self._send(request, response)
        else:
            self._held = response

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._send(self._requests[0], held)

    def _send(self, request: HttpRequest, response: HttpResponse) -> None:
        self._answered = request
        self._report(response, request.began)
        if response.close or request.must_close(self._limits.wire):
            request.keep_alive = False
        if response.stream is not None:
            self._spawn(self._respond_in_pieces(request, response, response.stream))
        elif not request.is_closed:
            self._send_head(request, response)
            self._finish(request)

    def refuse(self) -> None:
        """Refuse the request in progress, as the server stops."""
        if self._requests:
            self._respond(self._requests[0], refusal_response(STOPPING, self._requests[0].dialect))

    def _send_head(
        self, request: HttpRequest, response: HttpResponse, *, is_chunked: bool = False
    ) -> None:
        """Send a response without its stream."""
        is_head, close = request.method == "HEAD", not request.keep_alive
        head = serialize(response, close=close, is_head=is_head, is_chunked=is_chunked)
        self._transport.write(head)

    async def _respond_in_pieces(
        self, request: HttpRequest, response: HttpResponse, stream: AsyncGenerator[bytes, None]
    ) -> None:
        """Send a response and its stream. Without length and chunks, the body ends with the
        connection. A stream that breaks off ends the connection."""
        length, write, is_head = response.length, self._transport.write, request.method == "HEAD"
        is_chunked = length is None and request.takes_chunks
        if request.is_closed or is_head:
            await stream.aclose()
        if request.is_closed:
            return
        request.keep_alive = request.keep_alive and (is_chunked or length is not None)
        self._send_head(request, response, is_chunked=is_chunked)
        if not is_head:
            self._stream = BodyStream(
                stream, length, is_chunked=is_chunked, write=write, writable=self._writable
            )
            is_whole, self._stream = await self._stream.send(), None
            request.keep_alive = request.keep_alive and is_whole
        if not request.is_closed:
            self._finish(request)

    def _cut_stream(self, *, is_gone: bool = False) -> None:
        """End the stream in progress if it is endless, or if the reader is gone."""
        if self._stream is not None and (is_gone or self._stream.is_endless):
            self._stream.cut()

    def _finish(self, request: HttpRequest) -> None:
        """Go on after a response with the next request, or wait for the sender."""
        self._requests.popleft()
        self._answered = None  # it refers to this object
        request.drop()
        if not request.keep_alive:
            self._close()
        if self._closes():
            return
        self._resume_reading()
        if self._requests:
            self._start()
        elif self._phase == "between":
            self._wait_for_request()
        else:
            self.start_waiting(self._loop.time())

    def _wait_for_request(self) -> None:
        now = self._loop.time()
        self._deadline = now + IDLE_SECONDS
        self.start_waiting(now)

    def _report(self, response: HttpResponse, began: float) -> None:
        if self._observe is not None:
            self._observe(response.status, self._loop.time() - began, response.code)

    def _fail(self, refusal: Refusal) -> None:
        """Parse no more; refuse the faulty request, and finish earlier ones."""
        self._ignore_input = True
        if not self._requests:
            if self._phase == "body":  # being skipped: the response was sent
                self._close()
            else:
                self._send_error(refusal)
            return
        latest = self._requests[-1]
        latest.keep_alive = False
        if self._phase == "body":
            self._deadline = _NEVER
            latest.fail(refusal)

    def _send_error(self, refusal: Refusal) -> None:
        """Refuse input that never became a request."""
        response = refusal_response(refusal)
        self._report(response, self.waiting_since)
        self._transport.write(serialize(response, close=True))
        self._close()
