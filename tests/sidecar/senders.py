"""Ways to send canaries, polite and rude; each returns what came back."""

from __future__ import annotations

import gzip
import http.client
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, TypeVar

import grpc  # type: ignore[import-untyped]

from collector.contracts import Signal
from tests.sidecar.marks import Marks
from tests.support import http2
from tests.support.deadline import WAIT_SECONDS
from tests.support.sidecar import Sidecar

METHODS: dict[Signal, str] = {
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_AT_ONCE = 8
_SECONDS = WAIT_SECONDS / 2
_ODD_SECONDS = 0.4
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_T = TypeVar("_T")


class Body(NamedTuple):
    """A body to post, and its path."""

    path: str
    kind: str
    content: bytes
    encoding: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers that the body needs."""
        encoded = {"Content-Encoding": self.encoding} if self.encoding else {}
        return {"Content-Type": self.kind} | encoded


def _each(work: Callable[[Sequence[_T]], list[bytes]], items: Iterable[_T]) -> bytes:
    """Return all answers that several workers got, each for a share of the items."""
    items = list(items)
    shares = [items[at::_AT_ONCE] for at in range(_AT_ONCE)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return b"\n".join(answer for part in pool.map(work, shares) for answer in part)


def posted(
    sidecar: Sidecar, bodies: Iterable[Body], headers: dict[str, str] | None = None
) -> bytes:
    """Return the complete answers to bodies; ``headers`` go with each."""

    def work(share: Sequence[Body]) -> list[bytes]:
        place = "127.0.0.1", sidecar.ports["http"]
        connection = http.client.HTTPConnection(*place, timeout=_SECONDS)
        heard = []
        for body in share:
            connection.request("POST", body.path, body.content, body.headers() | (headers or {}))
            answer = connection.getresponse()
            heard.append(f"{answer.status} {answer.reason}\n{answer.msg}".encode() + answer.read())
        connection.close()
        return heard

    return _each(work, bodies)


def spoilt(body: Body, marks: Marks) -> Iterator[Body]:
    """Yield the body in forms that cannot be decoded, or are not accepted."""
    path, kind, content, _ = body
    name = f"spoilt {path}"
    yield body._replace(content=content[:-3])
    yield body._replace(content=content + marks.data(name))
    yield body._replace(content=marks.data(name) + content)
    yield body._replace(content=content.replace(b"a", b"\xff", 2))
    yield body._replace(kind=_JSON if kind == _PROTOBUF else _PROTOBUF)
    yield body._replace(kind=f"{kind}; charset={marks.text(name)}")
    yield body._replace(kind=marks.text(name))
    yield body._replace(encoding=marks.text(name))
    packed = gzip.compress(content)
    yield Body(path, kind, packed, "gzip")
    yield Body(path, kind, packed[:-9], "gzip")
    yield Body(path, kind, packed + marks.data(name), "gzip")
    yield Body(path, kind, packed + gzip.compress(marks.data(name)), "gzip")
    yield Body(path, kind, zlib.compress(content), "deflate")
    yield Body(path, kind, content, "zstd")
    yield Body(path, kind, packed, "gzip, gzip")


def shouted(port: int, requests: Iterable[bytes]) -> bytes:
    """Send each request over its own connection, and return what comes back until it is closed."""

    def work(share: Sequence[bytes]) -> list[bytes]:
        return [heard_of(port, request) for request in share]

    return _each(work, requests)


def heard_of(port: int, request: bytes, seconds: float = _SECONDS) -> bytes:
    """Send bytes over a bare connection, and return what comes back until it is closed."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), seconds) as line:
        with suppress(OSError):
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while more := line.recv(1 << 16):
                heard += more
    return heard


def called(
    sidecar: Sidecar,
    calls: Iterable[tuple[str, bytes]],
    metadata: Sequence[tuple[str, str | bytes]],
) -> bytes:
    """Return the answers to gRPC calls: messages, statuses, and metadata."""
    place = f"127.0.0.1:{sidecar.ports['grpc']}"

    def work(share: Sequence[tuple[str, bytes]]) -> list[bytes]:
        with grpc.insecure_channel(place, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            return [_call(channel, method, body, metadata) for method, body in share]

    return _each(work, calls)


def _call(
    channel: grpc.Channel, method: str, body: bytes, metadata: Sequence[tuple[str, str | bytes]]
) -> bytes:
    try:
        answer, call = channel.unary_unary(method).with_call(
            body, metadata=metadata, timeout=_SECONDS
        )
    except grpc.RpcError as error:
        answer, call = b"", error
    told = f"{call.code()} {call.details()} {call.initial_metadata()} {call.trailing_metadata()}"
    return bytes(answer) + told.encode()


def odd_calls(sidecar: Sidecar, marks: Marks) -> bytes:
    """Return what comes back for gRPC calls that no library would make."""

    def a(where: str) -> bytes:
        return marks.data(f"grpc {where}")

    path = METHODS["logs"].encode()
    names = b"""
        :method :scheme :path :authority te content-type grpc-encoding grpc-accept-encoding
        grpc-timeout grpc-trace-bin grpc-tags-bin user-agent authorization x-forwarded-for cookie
        traceparent anything anything-bin
    """
    headers = [{name: a(name.decode())} for name in names.split()]
    headers += [{a("name"): a("value")}, {b"authorization": b"Bearer " + a("token")}]
    headers += [{b":path": b"/%s/Export" % a("service")}, {b"x": a("large") * 5000}]
    sent = [[http2.call(path, more), http2.message(a("body"))] for more in headers]
    packed = {b"grpc-encoding": b"gzip"}
    sent += [
        [http2.call(path), http2.message(a("flag"), flag=7)],
        [http2.call(path), http2.message(a("length"), length=99)],
        [http2.call(path, packed), http2.message(a("gzip"), flag=1)],
        [http2.call(path, packed), http2.message(gzip.compress(a("gzip"))[:-9], flag=1)],
        [http2.frame(99, 0, 0, a("frame"))],
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        port = sidecar.ports["grpc"]
        heard = pool.map(
            lambda frames: http2.exchange(port, [http2.HELLO, *frames], _ODD_SECONDS), sent
        )
        return b"\n".join(heard)
