"""Requests that are made to cost memory or time, and the answer to each.

A body that is to decompress to all that is allowed is mixed at random, because it must not compress
too well. Bodies are made on first use, and kept.
"""

from __future__ import annotations

import gzip
import http.client
import random
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import NamedTuple

import grpc  # type: ignore[import-untyped]

from tests.filter.otlp_bombs import deep, field, keys, logs, record, value
from tests.sidecar.senders import METHODS, heard_of
from tests.support.sidecar import Sidecar
from tests.support.zeros import zeros

_MIB = 1 << 20
_SPARE = 200
_WIRE = _BODY = 8 * _MIB - _SPARE
_SECONDS = 60
_JSON, _LINES, _PROTOBUF = "application/json", "application/x-ndjson", "application/x-protobuf"
Make = Callable[[], bytes]


class Post(NamedTuple):
    """An HTTP body, its path, its type, and the status of its answer."""

    path: str
    kind: str
    content: Make
    status: int
    encoding: str = ""


class Call(NamedTuple):
    """A message for gRPC's logs, and the code that ends the call."""

    content: Make
    code: grpc.StatusCode


class Shout(NamedTuple):
    """Bytes for a bare connection, and the statuses of all answers."""

    sent: Make
    statuses: list[int]


def posted(sidecar: Sidecar, post: Post) -> int:
    """Return the status of a body, on its own connection."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.ports["http"], timeout=_SECONDS)
    headers = {"Content-Type": post.kind}
    if post.encoding:
        headers["Content-Encoding"] = post.encoding
    with suppress(OSError):  # the answer may come before all is sent
        connection.request("POST", post.path, post.content(), headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def called(sidecar: Sidecar, call: Call) -> grpc.StatusCode:
    """Return the code of a call, on its own channel."""
    with grpc.insecure_channel(f"127.0.0.1:{sidecar.ports['grpc']}") as channel:
        try:
            channel.unary_unary(METHODS["logs"])(call.content(), timeout=_SECONDS)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


# -- bodies -------------------------------------------------------------------------------------


def mixed(one: bytes, other: bytes, size: int = _BODY) -> bytes:
    """Two parts in random order, about as many as fit. Repetitions are too far apart for gzip to
    find them."""
    block = b"".join(random.Random(0).choices((one, other), k=50_000))
    return block * (size // len(block))


def packed(make: Make) -> bytes:
    """Compress a body with gzip to what is allowed on the wire."""
    content = gzip.compress(make(), 1)
    assert len(content) < _WIRE
    return content


def of(make: Callable[..., bytes], *arguments: object) -> Make:
    """Call ``make`` once, and keep the result."""
    return cache(partial(make, *arguments))


def json_logs(items: bytes) -> bytes:
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b{}]}]}]}' % items


def _as_sent() -> bytes:
    return b"[%b{}]" % (b"{}," * (_WIRE // 3))


def _array() -> bytes:
    return b"[%b{}]" % mixed(b"{},", b"{ },")


def _members() -> bytes:
    return b'{%b"a":0}' % b"".join(b'"%x":0,' % n for n in range(800_000))


def _resources() -> bytes:
    """Resources that each have their own attribute and item."""
    linux = field(2, field(1, b"linux"))
    item = field(2, field(2, b""))
    return b"".join(
        field(1, field(1, field(1, field(1, b"os.type") + linux + field(9, b"%x" % n))) + item)
        for n in range(19_999)
    )


_EVENTS = "/v1/events"
_LOGS = "/v1/logs"
BODIES: dict[str, Post] = {
    "gzip bomb": Post(_EVENTS, _JSON, of(zeros, "gzip", 16), 413, "gzip"),
    "zstd bomb": Post(_EVENTS, _JSON, of(zeros, "zstd", 16), 413, "zstd"),
    "deflate bomb": Post(_EVENTS, _JSON, of(zeros, "deflate", 16), 413, "deflate"),
    "more than it may become": Post(
        _EVENTS, _JSON, of(lambda: zlib.compress(bytes(64 * _MIB), 0)[: 8 * _MIB]), 400, "deflate"
    ),
    "bomb in a bomb": Post(
        _EVENTS, _JSON, of(lambda: gzip.compress(zeros("gzip", 16), 0)), 400, "gzip"
    ),
    "200,000 empty members": Post(
        _EVENTS, _JSON, of(lambda: gzip.compress(b"") * 200_000), 400, "gzip"
    ),
    "a million empty members": Post(
        _EVENTS, _JSON, of(lambda: gzip.compress(b"") * 1_000_000), 413, "gzip"
    ),
    "array of empty objects": Post(_EVENTS, _JSON, of(_as_sent), 413),
    "array of empty objects, packed": Post(_EVENTS, _JSON, of(packed, _array), 413, "gzip"),
    "lines of empty objects": Post(_EVENTS, _LINES, of(lambda: b"{}\n" * (_WIRE // 3)), 413),
    "lines of empty objects, packed": Post(
        _EVENTS, _LINES, of(packed, lambda: mixed(b"{}\n", b"{ }\n")), 413, "gzip"
    ),
    "object of 800,000 members": Post(_EVENTS, _JSON, of(packed, _members), 200, "gzip"),
    "arrays in arrays": Post(_EVENTS, _JSON, of(lambda: b"[" * _WIRE), 200),
    "arrays in arrays, ended": Post(
        _EVENTS, _JSON, of(lambda: b"[" * (_WIRE // 2) + b"]" * (_WIRE // 2)), 200
    ),
    "objects in objects": Post(_EVENTS, _JSON, of(lambda: b'{"a":' * (_WIRE // 5)), 200),
    "lines of arrays in arrays": Post(
        _EVENTS, _LINES, of(lambda: (b"[" * 2000 + b"\n") * (_WIRE // 2001)), 200
    ),
    "empty log records": Post(_LOGS, _PROTOBUF, of(lambda: logs(b"\x12\x00" * (_WIRE // 2))), 413),
    "empty log records, packed": Post(
        _LOGS,
        _PROTOBUF,
        of(packed, lambda: logs(mixed(b"\x12\x00", b"\x12\x02\x08\x01"))),
        413,
        "gzip",
    ),
    "empty log records as JSON, packed": Post(
        _LOGS, _JSON, of(packed, lambda: json_logs(mixed(b"{},", b"{ },"))), 413, "gzip"
    ),
    "empty resources, packed": Post(
        _LOGS, _PROTOBUF, of(packed, lambda: mixed(b"\x0a\x00", b"\x0a\x02\x18\x01")), 413, "gzip"
    ),
    "19,999 resources": Post(_LOGS, _PROTOBUF, of(_resources), 200),
    "199,000 attributes": Post(
        _LOGS, _PROTOBUF, of(packed, lambda: record(keys(199_000))), 200, "gzip"
    ),
    "an attribute of arrays": Post(
        _LOGS,
        _PROTOBUF,
        of(packed, lambda: value(field(5, mixed(b"\x0a\x00", b"\x0a\x02\x10\x01")))),
        413,
        "gzip",
    ),
    "messages in messages": Post(_LOGS, _PROTOBUF, of(lambda: record(field(5, deep(20_000)))), 200),
}
_OK, _TOO_LARGE = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED
_INVALID = grpc.StatusCode.INVALID_ARGUMENT
CALLS: dict[str, Call] = {
    "call: 19,999 resources": Call(BODIES["19,999 resources"].content, _OK),
    "call: 199,000 attributes": Call(BODIES["199,000 attributes"].content, _OK),
    "call: empty log records": Call(BODIES["empty log records"].content, _TOO_LARGE),
    "call: empty log records, packed": Call(
        BODIES["empty log records, packed"].content, _TOO_LARGE
    ),
    "call: empty resources, packed": Call(BODIES["empty resources, packed"].content, _TOO_LARGE),
    "call: gzip bomb": Call(BODIES["gzip bomb"].content, _TOO_LARGE),
    "call: deflate bomb": Call(BODIES["deflate bomb"].content, _TOO_LARGE),
    "call: 8 MB of no message": Call(of(lambda: b"\xff" * _WIRE), _INVALID),
}


# -- bytes that no client library would send ----------------------------------------------------


def _head(*headers: bytes, body: bytes = b"") -> Make:
    lines = (b"POST /v1/events HTTP/1.1", b"Host: localhost", b"Content-Type: application/json")
    return lambda: b"\r\n".join([*lines, *headers, b"", body])


def _length(value: bytes, body: bytes = b"{}") -> Make:
    return _head(b"Content-Length: " + value, body=body)


def _chunks(body: bytes) -> Make:
    return _head(b"Transfer-Encoding: chunked", body=body)


_LARGE = b"x" * 1_000_000
SHOUTS: dict[str, Shout] = {
    "one header of 1 MB": Shout(_head(b"X: " + _LARGE), [431]),
    "1 MB of headers": Shout(_head(*[b"X%d: y" % n for n in range(100_000)]), [431]),
    "a path of 1 MB": Shout(lambda: b"POST /%b HTTP/1.1\r\nHost: a\r\n\r\n" % _LARGE, [431]),
    "5 GB to come": Shout(_length(b"5000000000"), [413]),
    "chunks of one byte": Shout(_chunks(b"1\r\n \r\n" * 300_000), [400]),
    "no HTTP": Shout(lambda: b"\0\xff" * 100_000, [400]),
}


def shouted(sidecar: Sidecar, shout: Shout) -> list[int]:
    """Return the statuses of all answers before the connection is closed."""
    heard = heard_of(sidecar.ports["http"], shout.sent(), _SECONDS)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", heard)]
