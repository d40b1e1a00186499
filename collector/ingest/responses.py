"""Responses: the counts of what was stored, or a refusal. They consist of constants and counts.

A handler may also respond with a stream. It is sent piece by piece as the reader takes it.

Responses on OTLP's paths are OTLP messages, as protobuf or JSON; all others are Collector's own
JSON. An error in OTLP/JSON has both forms, because clients ignore members that they do not know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from typing import NamedTuple

from collector.contracts import REJECTIONS, Earlier, Signal, Tally
from collector.ingest.refusals import KEY_REUSED, TOO_LARGE, UNREADABLE, Headers, Refusal

Observe = Callable[[int, float, str | None], None]
"""Gets the HTTP status and the duration in seconds of every response, and the code of a refusal."""

JSON_HEADERS: Headers = ((b"content-type", b"application/json"),)
_PROTOBUF: Headers = ((b"content-type", b"application/x-protobuf"),)
REJECTED_MEMBERS: dict[Signal, str] = {
    "logs": "rejectedLogRecords",
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
}
"""The member that counts what was rejected, by signal."""
_COMMAND = "collector explain --live"
"""The command that tells on the sidecar's machine why no field of an event is admitted."""
_LENGTH_DELIMITED = 2
_VARINT = 0
_PIECE = 64 << 10
"""Bytes of a stream that are written before waiting for the reader."""


class Dialect(NamedTuple):
    """The form of a response: an OTLP signal's, as protobuf or JSON, or Collector's own."""

    signal: Signal | None = None
    protobuf: bool = False


EVENTS = Dialect()
"""Collector's own JSON."""


class HttpResponse(NamedTuple):
    """A status, headers and a body. ``close`` closes the connection afterwards. ``code`` is the
    code of a refusal.

    ``stream`` yields the body instead of ``body``: ``length`` bytes in all, or any number without
    ``length``. It is asked for the next piece when the reader has taken the earlier ones. It is
    closed (``aclose``) when it ends, when the reader goes, and when the server stops. If it raises
    or has another length, the connection is cut, so that the reader sees that the body is
    incomplete. A stream without ``length`` does not delay a stop, and ends when the reader closes
    its direction.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    close: bool = False
    stream: AsyncGenerator[bytes, None] | None = None
    length: int | None = None
    code: str | None = None


GPC = HttpResponse(200, JSON_HEADERS, b'{"gpc":true,"lastUpdate":"2026-11-26"}')
"""States that Global Privacy Control is respected, and since when: https://www.w3.org/TR/gpc/."""


def tally_response(dialect: Dialect, tally: Tally, *, lines: bool = False) -> HttpResponse:
    """Build the response to a request that was filtered and stored.

    A document that could not be decoded, or is too large as a whole, is an error. With ``lines``,
    the good ones were stored, so the counts tell what happened.
    """
    refused = None if lines else refused_whole(tally)
    if refused is not None:
        return refusal_response(refused, dialect)
    if dialect.signal is None:
        return HttpResponse(200, JSON_HEADERS, f"{{{_counts_json(tally)}}}".encode())
    if dialect.protobuf:
        return HttpResponse(200, _PROTOBUF, export_protobuf(tally))
    return HttpResponse(200, JSON_HEADERS, export_json(dialect.signal, tally))


def earlier_response(dialect: Dialect, earlier: Earlier) -> HttpResponse:
    """Build the response to a request whose key was used before: the counts of what was stored
    then, and an error if the body was another one."""
    if dialect.signal is not None:
        return tally_response(dialect, earlier.counts)
    members = f'{_counts_json(earlier.counts)},"repeated":true'
    if earlier.is_same:
        return HttpResponse(200, JSON_HEADERS, f"{{{members}}}".encode())
    body = f'{{{members},"error":{_error_json(KEY_REUSED)}}}'.encode()
    return HttpResponse(KEY_REUSED.status, JSON_HEADERS, body, code=KEY_REUSED.code)


@cache
def refusal_response(refusal: Refusal, dialect: Dialect = EVENTS) -> HttpResponse:
    """Build the response that refuses a request."""
    content_type, body = JSON_HEADERS, f'{{"error":{_error_json(refusal)}}}'.encode()
    if dialect.protobuf:
        message = f"{refusal.message} [{refusal.code}]"
        content_type, body = _PROTOBUF, status_protobuf(refusal.rpc, message)
    elif dialect.signal is not None:
        status = f'"code":{refusal.rpc},"message":"{refusal.message}"'
        body = f'{{{status},"error":{_error_json(refusal)}}}'.encode()
    headers = content_type + refusal.headers
    return HttpResponse(refusal.status, headers, body, refusal.close, code=refusal.code)


def serialize(
    response: HttpResponse, *, close: bool, is_head: bool = False, is_chunked: bool = False
) -> bytes:
    """Build the bytes of a response in HTTP/1.1, up to the stream if it has one.

    ``close`` announces that the connection closes; ``is_head`` leaves out the body; ``is_chunked``
    announces chunks for a stream of unknown length.
    """
    length = len(response.body) if response.stream is None else response.length
    lines = [_status_line(response.status), _date_header(int(time.time()))]
    lines += [b"%s: %s\r\n" % header for header in response.headers]
    if response.status != HTTPStatus.NO_CONTENT and length is not None:
        lines.append(b"content-length: %d\r\n" % length)
    elif is_chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    if close:
        lines.append(b"connection: close\r\n")
    lines += (b"\r\n", b"" if is_head else response.body)
    return b"".join(lines)


@cache
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


@lru_cache(1)
def _date_header(second: int) -> bytes:
    return f"date: {formatdate(second, usegmt=True)}\r\n".encode()


def _error_json(refusal: Refusal) -> str:
    return f'{{"code":"{refusal.code}","message":"{refusal.message}"}}'


def _counts_json(tally: Tally) -> str:
    """Return the members of a JSON object, without its braces."""
    times = tally.rejected.get
    rejected = ",".join(f'"{reason}":{times(reason)}' for reason in REJECTIONS if times(reason))
    why = f',"why":"{_COMMAND}"' if times("nothing_admitted") else ""
    return f'"received":{tally.received},"admitted":{tally.admitted},"rejected":{{{rejected}}}{why}'


def refused_whole(tally: Tally) -> Refusal | None:
    """Return why a whole body was refused, if it was: it cannot be decoded, or is too large. The
    response to an accepted body counts its rejected items."""
    if tally.received == tally.rejected["malformed"] == 1:
        return UNREADABLE
    if tally.received and tally.received == tally.rejected["too_large"]:
        return TOO_LARGE
    return None


def export_protobuf(tally: Tally) -> bytes:
    """Build an Export response of any of the three services; empty on full success. Items that the
    schema does not ask for do not prevent full success."""
    if not (rejected := tally.refused):
        return b""
    partial = _number(1, rejected) + _text(2, _reasons(tally))
    return _bytes(1, partial)


def export_json(signal: Signal, tally: Tally) -> bytes:
    """Build an Export response as OTLP/JSON, which writes 64-bit integers as strings."""
    if not (rejected := tally.refused):
        return b"{}"
    partial = f'{{"{REJECTED_MEMBERS[signal]}":"{rejected}","errorMessage":"{_reasons(tally)}"}}'
    return f'{{"partialSuccess":{partial}}}'.encode()


def status_protobuf(code: int, message: str) -> bytes:
    """Build a ``google.rpc.Status`` for an error; ``message`` is a constant."""
    return _number(1, code) + _text(2, message)


def retry_protobuf(code: int, message: str, seconds: int) -> bytes:
    """Build a ``google.rpc.Status`` with a ``google.rpc.RetryInfo``: when to try again."""
    delay = _bytes(1, _number(1, seconds))
    detail = _text(1, "type.googleapis.com/google.rpc.RetryInfo") + _bytes(2, delay)
    return status_protobuf(code, message) + _bytes(3, detail)


def _reasons(tally: Tally) -> str:
    """List reasons with their counts: ``rejected: missing_required 3``."""
    counts = ((name, tally.rejected[name]) for name in REJECTIONS if name != "not_selected")
    reasons = (f"{name} {times}" for name, times in counts if times)
    why = f"; `{_COMMAND}` says why" if tally.rejected["nothing_admitted"] else ""
    return f"rejected: {', '.join(reasons)}{why}"


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value) if value else b""


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode()) if value else b""


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Encode a non-negative number in base 128, least significant first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class BodyStream:
    """A stream that the current task sends: as ``length`` bytes, in chunks, or up to the end of the
    connection. ``write`` sends bytes; ``writable`` is set while the reader takes them."""

    def __init__(
        self,
        stream: AsyncGenerator[bytes, None],
        length: int | None,
        *,
        is_chunked: bool,
        write: Callable[[bytes | memoryview], None],
        writable: asyncio.Event,
    ) -> None:
        self.is_endless: bool = length is None
        self._stream, self._length, self._is_chunked = stream, length, is_chunked
        self._write, self._writable = write, writable
        self._task = asyncio.current_task()

    async def send(self) -> bool:
        """Send the whole stream, and close it; return whether it was complete."""
        try:
            async with aclosing(self._stream):
                return await self._send()
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - its message may hold a value
            return False

    def cut(self) -> None:
        """End the stream at once, because the reader is gone or the server stops."""
        if self._task is not None:
            self._task.cancel()

    async def _send(self) -> bool:
        sent = 0
        async for whole in self._stream:
            sent += len(whole)
            if self._length is not None and sent > self._length:
                return False
            for at in range(0, len(whole), _PIECE):
                piece = memoryview(whole)[at : at + _PIECE]
                self._write(_chunk(piece) if self._is_chunked else piece)
                await self._writable.wait()
                await asyncio.sleep(0)  # give other connections a turn
        if self._is_chunked:
            self._write(b"0\r\n\r\n")
        return self._length in (None, sent)


def _chunk(piece: memoryview) -> bytes:
    return b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))
