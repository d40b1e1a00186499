"""Canaries in every place of an HTTP request: none comes back, none is logged, none is printed."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pytest

from collector.testing import canaries, scan
from tests.ingest.serving import Server, heard, serving

_MOODS = ["", "full", "failing"]
_HEADERS = """
authorization content-type content-encoding content-length transfer-encoding host origin referer
cookie user-agent idempotency-key x-forwarded-for forwarded expect connection upgrade accept te
trailer via range traceparent tracestate baggage access-control-request-method
access-control-request-headers
""".split()


def _requests(names: Iterator[str]) -> Iterator[bytes]:
    """Requests with a canary in one place or in many, good, bad, and broken off."""
    start = b"POST /v1/events HTTP/1.1\r\nHost: a\r\n"
    kind = b"Content-Type: application/json\r\n"
    body = b'{"%s":"%s","chat":["%s"]}' % tuple(next(names).encode() for _ in range(3))
    rest = kind + b"Content-Length: %d\r\n\r\n" % len(body) + body
    yield start + rest
    yield start + rest[:-3]
    yield start.replace(b"/v1/events", b"/%s/%s" % _two(names)) + rest
    yield start.replace(b"/v1/events", b"/v1/events?%s=%s" % _two(names)) + rest
    yield start.replace(b"/v1/events", b"http://%s/v1/events#%s" % _two(names)) + rest
    yield start.replace(b"/v1/events", b"/%%zz%%%s %s" % _two(names)) + rest
    yield start.replace(b"POST", next(names).upper().encode()) + rest
    yield start.replace(b"HTTP/1.1", next(names).encode()) + rest
    for name in _HEADERS:
        yield start + b"%s: %s\r\n" % (name.encode(), next(names).encode()) + rest
    yield start + b"%s: %s\r\n" % _two(names) + rest
    yield start + b"%s %s\r\n" % _two(names) + rest
    yield start + b"X: \0%s" % next(names).encode() + rest
    yield start + b"X: %s" % next(names).encode() * 5000 + rest
    chunked = start + kind + b"Transfer-Encoding: chunked\r\n\r\n"
    ext, trailer = _two(names)
    chunk = b"%x;%s=1\r\n%s\r\n" % (len(body), ext, body)
    yield chunked + chunk + b"0\r\nX: %s\r\n\r\n" % trailer
    yield chunked + chunk + b"%s\r\n" % trailer
    yield from _records(names)
    for path in (b"events", b"logs", b"traces", b"metrics"):
        for form in (b"json", b"x-ndjson", b"x-protobuf"):
            for encoding, made in ((b"identity", body), (b"gzip", gzip.compress(body))):
                head = b"POST /v1/%s HTTP/1.1\r\nHost: a\r\nContent-Type: application/%s\r\n"
                more = b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
                yield head % (path, form) + more % (encoding, len(made)) + made
    yield next(names).encode() * 100
    yield start + rest + next(names).encode() + start + rest


def _records(names: Iterator[str]) -> Iterator[bytes]:
    """Records with a canary in each of their places; and one in the key."""
    head = b"POST /v1/records HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
    record = {"schema": "conferencing/1.0.0", "os.type": "linux", "count": 2}
    record["received"] = "2026-11-26T03:10:00Z"
    for name in (*record, "client.address", "unlisted", "chat"):
        for value in (next(names), [next(names)], {next(names): 1}):
            line = json.dumps({next(names): 1} | record | {name: value}).encode()
            yield head + b"Content-Length: %d\r\n\r\n" % len(line) + line
            key = b"Idempotency-Key: %s\r\n" % next(names).encode()
            yield head + key + b"Content-Length: %d\r\n\r\n" % len(line) + line


def _two(names: Iterator[str]) -> tuple[bytes, bytes]:
    return next(names).encode(), next(names).encode()


def _answers(server: Server, requests: Iterator[bytes]) -> bytes:
    """What each request brings back, on a connection of its own."""
    answers = []
    for request in requests:
        with server.connect() as line:
            with suppress(OSError):
                line.sendall(request)
                line.shutdown(socket.SHUT_WR)
            answers.append(heard(line))
    assert all(answers)
    return b"\n".join(answers)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("mood", _MOODS)
def test_nothing_of_a_request_is_ever_said(tmp_path: Path, mood: str, loop: str) -> None:
    """With every logger at DEBUG, and asyncio looking closely."""
    own = canaries(100)
    written = tmp_path / "written"
    written.mkdir()
    debug = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    with serving(written, mood=mood, loop=loop, environment=debug) as server:
        (written / "answers").write_bytes(_answers(server, _requests(cycle(own))))
    statuses = set(server.observed())
    assert {400, 404, 415, 431} <= statuses
    assert {"": 200, "full": 503, "failing": 500}[mood] in statuses
    assert scan(written, own) == []
    assert [name for name in own if name.upper() in server.said()] == []
    assert loop == "uvloop" or "DEBUG:asyncio" in server.said()
    assert "Traceback" not in server.said()


def test_the_scan_would_find_it(tmp_path: Path) -> None:
    """A receiver that tells what it sees is caught."""
    own = canaries(1)
    with serving(tmp_path, mood="telling") as server:
        server.post(b"{}", user_agent=own[0])
    assert [hit.canary for hit in scan(tmp_path, own)] == list(own)
