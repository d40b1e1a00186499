"""Canaries in every place of a request: none comes back, none is logged, none is printed.

The receiver runs in a process of its own, whose loggers all write to stderr at DEBUG.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.grpc import METHODS
from collector.testing import canaries, scan
from tests.ingest.serving import Server, heard, serving
from tests.support import http2
from tests.support.deadline import WAIT_SECONDS
from tests.support.rows import for_each

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
    """The response to each request, on a connection of its own."""
    answers = []
    for request in requests:
        with server.connect() as line:
            with suppress(OSError):
                line.sendall(request)
                line.shutdown(socket.SHUT_WR)
            answers.append(heard(line))
    assert all(answers)
    return b"\n".join(answers)


def test_nothing_of_a_request_is_ever_said(tmp_path: Path) -> None:
    own = canaries(100)
    written = tmp_path / "written"
    written.mkdir()
    debug = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    with serving(written, mood="changing", environment=debug) as server:
        names = cycle(own)
        for number in range(3):
            (written / f"answers-{number}").write_bytes(_answers(server, _requests(names)))
    assert {200, 400, 404, 415, 431, 500, 503} <= set(server.observed())
    assert scan(written, own) == []
    assert [name for name in own if name.upper() in server.said()] == []
    assert "Traceback" not in server.said()


def test_the_scan_would_find_it(tmp_path: Path) -> None:
    """A receiver that tells what it sees is caught."""
    own = canaries(1)
    with serving(tmp_path, mood="telling") as server:
        server.post(b"{}", user_agent=own[0])
    assert [hit.canary for hit in scan(tmp_path, own)] == list(own)


# -- gRPC

_LOGS = next(iter(METHODS)).encode()


def _odd_headers(canary: bytes) -> Iterator[Mapping[bytes, bytes | None]]:
    """Each header that HTTP/2 and gRPC know, and some that they do not, with a canary in it."""
    names = b"""
        :method :scheme :path :authority te content-type grpc-encoding grpc-accept-encoding
        grpc-timeout grpc-status grpc-message grpc-trace-bin grpc-tags-bin
        grpc-previous-rpc-attempts grpc-retry-pushback-ms grpc-internal-encoding-request lb-token
        lb-cost-bin host user-agent
        authorization x-forwarded-for x-envoy-peer-metadata content-length cookie traceparent
        tracestate baggage anything anything-bin grpc-server-stats-bin endpoint-load-metrics-bin
    """
    for name in names.split():
        yield {name: canary}
    yield {canary: b"1"}
    yield {b":path": b"/" + canary + b"/Export"}
    yield {b":path": _LOGS + b"/" + canary}
    yield {b"content-type": b"application/grpc+" + canary}
    yield {b"anything": b"\xff\xfe" + canary}
    yield {b"anything": b"\r\n\x00" + canary}
    yield {canary + b"-bin": base64.b64encode(canary)}
    yield {b"authorization": b"Bearer " + canary}
    yield {b"anything": canary * 5000}
    yield {b"%s-%d" % (canary, at): canary * 40 for at in range(300)}


def _odd_calls(canary: bytes) -> Iterator[bytes]:
    """Frames that no library would send."""
    for headers in _odd_headers(canary):
        yield http2.HELLO + http2.call(_LOGS, headers) + http2.message(canary)
    opened = http2.HELLO + http2.call(_LOGS, {b"grpc-encoding": b"gzip"})
    packed = gzip.compress(canary)
    for body, flag, length in (
        (canary, 1, None),
        (canary, 7, None),
        (canary, 0, 3),
        (canary, 0, 99),
        (canary, 0, 1 << 31),
        (packed, 1, None),
        (packed[:-8] + canary, 1, None),
        *[(canary, 0, None)] * 3,
    ):
        yield opened + http2.message(body, flag=flag, length=length)
    yield canary
    yield http2.HELLO + http2.frame(99, 0, 0, canary)


def _raw(port: int, canary: bytes) -> list[bytes]:
    """The response to them."""
    with ThreadPoolExecutor(8) as pool:
        calls = _odd_calls(canary)
        return list(pool.map(lambda call: http2.exchange(port, [call], 0.7), calls))


def _polite(port: int, canary: str) -> Iterator[str]:
    """The status that a client of the library gets."""
    options = (("grpc.primary_user_agent", canary), ("grpc.default_authority", canary))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        for method in (*METHODS, f"/{canary}/Export"):
            for body in (*[canary.encode()] * 3, b"", bytes(9 << 20)):
                metadata = ((canary, canary), (f"{canary}-bin", canary.encode()))
                try:
                    answer = channel.unary_unary(method)(
                        body, metadata=metadata, timeout=WAIT_SECONDS
                    )
                    yield str(answer)
                except grpc.RpcError as error:
                    yield f"{error.details()} {error.trailing_metadata()}"
                    yield str(error.initial_metadata())


@pytest.mark.parametrize(("token", "verbosity"), [("", ""), ("right", ""), ("", "debug")])
def test_nothing_of_a_call_is_ever_said(tmp_path: Path, token: str, verbosity: str) -> None:
    """Answers, stdout and stderr; with and without tokens; also while the library logs much."""
    (canary,) = canaries(1)
    options: dict[str, Any] = {"token": token, "mood": "changing", "hops": 1, "grpc": True}
    with serving(tmp_path, environment={"GRPC_VERBOSITY": verbosity}, **options) as server:
        (tmp_path / "raw").write_bytes(b"\n".join(_raw(server.port, canary.encode())))
        (tmp_path / "polite").write_text("\n".join(_polite(server.port, canary)))
    assert (tmp_path / "raw").read_bytes().count(b"grpc-status") > 20
    assert scan(tmp_path, [canary]) == []
    assert "Traceback" not in server.said()
    (tmp_path / "planted").write_bytes(http2.call(_LOGS, {b"x": canary.encode()}))
    assert len(scan(tmp_path, [canary])) == 1


@for_each("name", [b"CANARY", b":canary", b"canary-bin"])
def test_what_is_out_of_our_hands(tmp_path: Path, name: bytes) -> None:
    """A capital or a colon in the name of a header, or binary metadata that is not base64, is
    against the protocol: newer libraries return the name to its sender only."""
    with serving(tmp_path, grpc=True) as server:
        sent = [http2.HELLO, http2.call(_LOGS, {name: b"secret!"}), http2.message(b"")]
        answer = http2.exchange(server.port, sent, 3.0)
    assert b"secret" not in answer
    assert name not in (tmp_path / "stderr").read_bytes()
