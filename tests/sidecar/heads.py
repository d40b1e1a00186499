"""Requests over a bare connection, good and bad, each with a canary in one place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from tests.sidecar.marks import Marks

_HEADERS = """
    authorization proxy-authorization content-type content-encoding content-length
    content-language transfer-encoding host origin referer cookie user-agent x-forwarded-for
    x-real-ip forwarded idempotency-key expect connection keep-alive upgrade accept
    accept-encoding accept-language te trailer via range if-match if-none-match date from pragma
    sec-gpc dnt traceparent tracestate baggage x-request-id access-control-request-method
    access-control-request-headers sec-websocket-key collector-schema collector-granted
"""
_POST = b"POST /v1/events HTTP/1.1\r\n"
_HOST = b"Host: localhost\r\n"
_START = _POST + _HOST
_CHUNKED = _START + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_A = Callable[[str], bytes]


def heads(marks: Marks) -> Iterator[bytes]:
    """Yield requests with every header, odd headers, targets and methods, and with bytes between
    and after requests."""

    def a(where: str) -> bytes:
        return marks.data(f"http {where}")

    event = json.dumps({"ip": "203.0.113.7", marks.text("http body"): [marks.text("http body")]})
    length = b"Content-Length: %d\r\n\r\n" % len(event)
    rest = b"Content-Type: application/json\r\n" + length + event.encode()
    for name in _HEADERS.split():
        line = b"%s: %s\r\n" % (name.encode(), a(name))
        yield _START + line + rest
        yield _POST + line + rest
    yield from (_START + line + b"\r\n" + rest for line in _odd_lines(a))
    yield from _keyed(a)
    yield _START.replace(b"localhost", b"%s.example:4318" % a("host")) + rest
    for target in _targets(a):
        yield _START.replace(b"/v1/events", target) + rest
        yield _START.replace(b"POST /v1/events", b"GET " + target) + b"\r\n"
        yield _START.replace(b"POST /v1/events", b"OPTIONS " + target) + b"\r\n"
    yield _START.replace(b"POST", a("method").upper()) + rest
    yield _START.replace(b"HTTP/1.1", b"HTTP/%s" % a("version")) + rest
    yield from _chunks(a, event.encode())
    yield _START + rest[:-5]
    yield _START + rest + a("after the end") + b"\r\n\r\n"
    yield a("no request") * 50
    yield b"\x16\x03\x01" + a("hello of TLS")


def _odd_lines(a: _A) -> Iterator[bytes]:
    yield b"Authorization: Bearer " + a("token")
    yield b"Content-Type: application/json; %s=%s" % (a("parameter"), a("parameter"))
    yield b"X-Forwarded-For: %s, 198.51.100.7, %s" % (a("hop"), a("hop"))
    yield b"User-Agent: Mozilla/5.0 (Windows NT 10.0; %s) %s" % (a("system"), a("agent"))
    yield b"Origin: https://%s.example" % a("origin")
    yield b"%s: %s" % (a("header name"), a("header value"))
    yield b"%s %s" % (a("no colon"), a("no colon"))
    yield b"X: \0%s" % a("control")
    yield b"X: %s" % (a("long header") * 4000)
    yield b"\r\n".join(b"X-%s: 1" % a("many headers") for _ in range(200))


def _keyed(a: _A) -> Iterator[bytes]:
    """Records under malformed keys."""
    start = _START.replace(b"events", b"records") + b"Content-Type: application/x-ndjson\r\n"
    body = b'{"schema":"%s","os.type":"linux"}' % a("schema of a record")
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    for key in (a("key"), b'"%s"' % a("quoted key"), a("key") + b"0" * 32):
        yield start + b"Idempotency-Key: %s\r\n" % key + length + body
    yield start + b"Idempotency-Key: %s\r\n" % a("key") * 2 + length + body


def _targets(a: _A) -> Iterator[bytes]:
    yield b"/%s" % a("path")
    yield b"/v1/events?schema=%s" % a("schema")
    yield b"/v1/events/%s" % a("path")
    yield b"/v1/events?%s=%s" % (a("query"), a("query"))
    yield b"/v1/events;%s" % a("path parameter")
    yield b"/v1/events#%s" % a("fragment")
    yield b"http://%s/v1/events" % a("authority")
    yield b"http://%s:%s@localhost/v1/events" % (a("user"), a("password"))
    yield b"/%%2e%%2e/%s" % a("path")
    yield b"/%%zz%s" % a("path")
    yield b"*%s" % a("path")


def _chunks(a: _A, event: bytes) -> Iterator[bytes]:
    size, end = b"%x" % len(event), event + b"\r\n0\r\n"
    yield _CHUNKED + size + b";%s=%s\r\n" % (a("extension"), a("extension")) + end + b"\r\n"
    yield _CHUNKED + size + b"\r\n" + end + b"%s: %s\r\n\r\n" % (a("trailer"), a("trailer"))
    yield _CHUNKED + a("chunk size") + b"\r\n"
