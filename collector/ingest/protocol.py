"""HTTP/1.1 on uvicorn and httptools, for senders that are slow, many, or up to no good.

``HttpToolsProtocol`` reads a request whatever it takes: any number of header bytes, any length of
time, any length of a body that nobody reads. ``Guarded`` adds what is missing. A connection is
always in one of three phases, between requests, in a head, or in a body, each with its deadline and
its ceiling. What is wrong with a body is handed to the application as ``fault`` in the request's
``state``, so that it answers in its own words and in turn; what is wrong before there is a request
is answered here. After either nothing more is read, and the connection is closed.

Nothing is logged here, and nothing of a request is ever part of an answer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar, Literal

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from collector.ingest.answers import refused
from collector.ingest.crowd import Crowd
from collector.ingest.http import RECEIVER, Observe
from collector.ingest.limits import Limits
from collector.ingest.parting import LINGER_SECONDS, Parting
from collector.ingest.refusals import (
    BUSY,
    CROWDED,
    HEADERS_TOO_LARGE,
    LATE,
    MALFORMED,
    STOPPING,
    TOO_LARGE,
    Refusal,
)

__all__ = ["Guarded", "protocol"]

Phase = Literal["between", "head", "body"]

_SILENT = logging.Logger("collector.ingest.silent", logging.CRITICAL + 1)
"""What uvicorn would log quotes paths and prints tracebacks."""

_PIECE = 64 << 10
"""Bytes that are parsed before ceilings are looked at."""
_FRAMING_BYTES = 64 << 10
_FRAMING_SHARE = 4
"""What sizes and extensions of chunks may take: so many bytes, and a quarter of the body."""
_MOST_HEADERS = 200
"""In one request. As Python's objects short ones take twenty times the bytes that are allowed."""
_MOST_QUEUED = 8
"""Requests that may wait behind the one being answered. Who sends more is not read any further."""
_VERSIONS = ("1.1", "1.0")
_NEVER = float("inf")


class _Stop(Exception):
    """Ends the parsing of what has been received."""


class Guarded(HttpToolsProtocol):
    """A connection with deadlines and ceilings. Made by ``protocol``."""

    crowd: ClassVar[Crowd]
    parting: Parting

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logger: logging.Logger = _SILENT
        self.access_logger: logging.Logger = _SILENT
        self.access_log = False
        self.ws_protocol_class: None = None
        self.limits: Limits = self.crowd.limits
        self.since: float = 0.0
        self.known: bool = False
        self._phase: Phase = "between"
        self._deaf = self._ended = False
        self._due = self._stuck = _NEVER
        self._hosts = self._head = self._raw = self._payload = 0
        self._chunked = False

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, or say that there are too many."""
        self.parting = Parting(transport, self.loop, self._closes)
        super().connection_made(self.parting)
        now = self.loop.time()
        self._due = now + self.limits.header_seconds
        if self.crowd.enter(self, self.loop):
            self.crowd.wait(self, now)
        else:
            self._deaf = True
            self._say(CROWDED)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self._deaf = self._ended = True
        self.crowd.leave(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The sender sends no more, but may still want to hear the answer."""
        idle = self._phase == "between" and not self._answering()
        if idle or self.transport.is_closing() or self.scheme == "https":
            self.parting.flush()
            return None
        self._ended = True
        self._fault(MALFORMED)
        return True

    def shutdown(self) -> None:
        """The server stops: what is being answered is answered, nothing else."""
        if self._answering():
            self._fault(STOPPING)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The sender does not read our answers."""
        self._stuck = self.loop.time() + self.limits.body_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._stuck = _NEVER
        super().resume_writing()

    def glance(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if now <= self._due and now <= self._stuck:
            return
        if now > self._stuck or self.transport.is_closing():
            self.transport.abort()
        elif self.flow.read_paused:  # it is we who are slow
            self._due = now + self.limits.body_seconds
        elif self._phase == "between":
            self.transport.close()
        else:
            self._fault(LATE)

    def dismiss(self) -> None:
        """Make way for others."""
        self.transport.abort()

    def _closes(self) -> bool:
        """It is to be closed now: whether something may be unread, which is then skipped."""
        self._deaf = True
        unread = self._phase != "between" and not self._ended
        self._due = self.loop.time() + (LINGER_SECONDS if unread else self.limits.body_seconds)
        self.flow.resume_reading()
        return unread

    # -- what is received

    def data_received(self, data: bytes) -> None:
        """Parse it, piece by piece, up to the ceilings."""
        if self._deaf:
            self.parting.skip(len(data))
            return
        try:
            self._parse(memoryview(data) if len(data) > _PIECE else data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._deaf:
                self._fault(MALFORMED)

    def _parse(self, data: bytes | memoryview) -> None:
        while data and not self._deaf:
            if self._phase == "body":
                piece, data = data[:_PIECE], data[_PIECE:]
                self._raw += len(piece)
                self.parser.feed_data(piece)
                self._weigh()
                continue
            room = self.limits.header_bytes - self._head
            piece, data = data[:room], data[room:]
            self._head = so_far = self._head + len(piece)
            self.parser.feed_data(piece)
            if self._head == so_far >= self.limits.header_bytes:
                self._fault(HEADERS_TOO_LARGE)

    def _weigh(self) -> None:
        """Whether a body is larger than it may be, or than it may be before it is its turn, or is
        made of more chunks than bytes."""
        if self._phase != "body":
            return
        if self._payload > self.limits.wire:
            self._fault(TOO_LARGE)
        elif self.pipeline and self._payload > _PIECE:
            self._fault(BUSY)
        elif self._raw - self._payload > _FRAMING_BYTES + self._payload // _FRAMING_SHARE:
            self._fault(MALFORMED)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._deaf:
            raise _Stop
        super().on_message_begin()
        self._phase = "head"
        self._hosts, self._chunked = 0, False
        if self.cycle is not None:  # the first one has had its time since the connection was made
            now = self.loop.time()
            self._due = now + self.limits.header_seconds
            if not self._answering():
                self.crowd.wait(self, now)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody asked for."""
        if self._phase == "body":
            return
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._chunked = True
            if value.strip().lower() != b"chunked":
                raise _Stop
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        if len(self.headers) >= _MOST_HEADERS:  # each costs many times its bytes
            self._fault(HEADERS_TOO_LARGE)
            raise _Stop
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head: the request begins, unless it could be read in more than one way."""
        version = self.parser.get_http_version()
        modern = version == "1.1"
        if version not in _VERSIONS or self.parser.should_upgrade():
            raise _Stop
        if self._hosts > 1 or (modern and not self._hosts) or (self._chunked and not modern):
            raise _Stop
        if len(self.pipeline) >= _MOST_QUEUED:
            self._fault(MALFORMED)
            raise _Stop
        super().on_headers_complete()
        self._phase = "body"
        self._due = self.loop.time() + self.limits.body_seconds
        self._head = self._raw = self._payload = 0

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._payload += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A whole request: now it is our turn, unless we have answered it already."""
        super().on_message_complete()
        self.known = True
        self._phase = "between"
        self._head = 0
        self._due = _NEVER
        if not self.cycle.keep_alive:
            self._deaf = True
        if self.cycle.response_complete:
            self._rest()
        else:
            self.crowd.stop_waiting(self)

    def on_response_complete(self) -> None:
        """An answer is out: the next request's turn, or the sender's."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._phase == "between":
            self._rest()
        else:
            self.crowd.wait(self, self.loop.time())

    def _rest(self) -> None:
        now = self.loop.time()
        self._due = now + self.limits.idle_seconds
        self.crowd.wait(self, now)

    # -- what is wrong

    def _answering(self) -> bool:
        """Whether a request, the latest perhaps, is not answered yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _fault(self, refusal: Refusal) -> None:
        """Nothing more is read. What is at fault is refused, in turn; what is not is answered."""
        self._deaf = True
        if not self._answering():
            if self._phase == "body":  # it was being skipped
                self.transport.close()
            else:
                self._say(refusal)
            return
        self.cycle.keep_alive = False
        if self._phase == "body":
            self._due = _NEVER
            self.cycle.scope["state"]["fault"] = refusal
            self.cycle.message_event.set()

    def _say(self, refusal: Refusal) -> None:
        """Refuse what never became a request."""
        answer = refused(refusal)
        length = (b"content-length", b"%d" % len(answer.body))
        headers = (*self.server_state.default_headers, *answer.headers, length)
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        head = STATUS_LINE[answer.status] + lines + b"connection: close\r\n\r\n"
        self.transport.write(head + answer.body)
        self.transport.close()
        if self.crowd.observe is not None:
            self.crowd.observe(RECEIVER, answer.status, self.loop.time() - self.since)


def protocol(limits: Limits, observe: Observe | None = None) -> type[Guarded]:
    """The protocol class for ``uvicorn.Config(http=...)``; its connections are counted together.

    ``observe`` gets what is refused before there is a request; the application tells of the rest.
    """
    return type("Guarded", (Guarded,), {"crowd": Crowd(limits, observe)})
