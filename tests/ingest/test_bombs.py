"""Requests made to cost memory or time: refused soon and cheaply, without delay for others."""

from __future__ import annotations

import gzip
import http.client
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.grpc import METHODS
from collector.ingest.limits import MIB
from tests.ingest.serving import exchange, serving
from tests.support import http2
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.latency import IS_FULL, at_most
from tests.support.zeros import zeros

pytestmark = pytest.mark.long

_EVENT = b'{"client":{"address":"203.0.113.7"},"os":{"type":"windows"}}'
_SENDERS = 8


def _made(kind: str) -> tuple[bytes, str, int]:
    if kind in ("gzip", "zstd"):
        return zeros(kind, 64), kind, 413
    if kind == "nested":
        return gzip.compress(zeros("gzip", 64)), "gzip", 400
    if kind == "members":
        return gzip.compress(b"") * 200_000, "gzip", 400
    if kind == "padded":
        return zlib.compress(bytes(64 * MIB), 0)[: 8 * MIB], "deflate", 400
    return gzip.compress(bytes(7 * MIB) + _noise(90_000)), "gzip", 400


def _noise(size: int) -> bytes:
    return b"".join(zlib.crc32(b"%d" % n).to_bytes(4) for n in range(size // 4))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "nested", "members", "padded", "allowed"])
def test_bombs(tmp_path: Path, kind: str) -> None:
    """Eight senders of bombs do not drive memory beyond 200 MiB, and others are answered; how soon,
    is tested with the whole sidecar."""
    body, encoding, status = _made(kind)
    statuses: list[int] = []
    with serving(tmp_path) as server:

        def send() -> None:
            client = server.client()
            for _ in range(3):
                try:
                    reply = exchange(client, body, content_encoding=encoding)
                    statuses.append(reply.status)
                except (OSError, http.client.HTTPException):
                    client.close()
            client.close()

        senders = [threading.Thread(target=send) for _ in range(_SENDERS)]
        for sender in senders:
            sender.start()
        client = server.client()
        while any(sender.is_alive() for sender in senders):
            assert exchange(client, _EVENT).status == 200
        client.close()
        assert set(statuses) <= {status, 503}
        assert status in statuses
        assert server.memory() < 200 * MIB


# -- gRPC

_LOGS = next(iter(METHODS))
_GOOD = b"\x0a\x18\x12\x16\x12\x14\x32\x12\x0a\x07os.type\x12\x07\x0a\x05linux"
_MOST_MEMORY = 256 << 20
_grpc = partial(serving, grpc=True)


def _packed(mebibytes: int, window: int) -> bytes:
    """So many mebibytes of nothing; in the window of a stream, so that no credit is needed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    nothing = bytes(1 << 20)
    parts = [packer.compress(nothing) for _ in range(mebibytes)]
    packed = b"".join([*parts, packer.flush()])
    assert len(packed) < 64_000
    return packed


@contextmanager
def _healthy(port: int) -> Iterator[list[float]]:
    """The seconds that honest calls take meanwhile, one after the other; all succeed."""
    times: list[float] = []
    over = threading.Event()

    def work() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            export = channel.unary_unary(_LOGS)
            while not over.wait(0.005):
                began = time.monotonic()
                assert export(_GOOD, timeout=WAIT_SECONDS) == b""
                times.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            yield times
        finally:
            over.set()
            future.result(WAIT_SECONDS)


def _assert_served(times: list[float]) -> None:
    """Honest calls were answered: meanwhile, or on a machine that is busy right afterwards."""
    if not IS_FULL:
        wait_until(lambda: len(times) > 2)
    assert len(times) > 2


@pytest.mark.timed
@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_compressed_bombs(tmp_path: Path, encoding: bytes) -> None:
    """200 messages, 16 at a time, of 60 KB that would be 60 MiB."""
    packed = _packed(60, 31 if encoding == b"gzip" else 15)
    call = http2.call(_LOGS.encode(), {b"grpc-encoding": encoding})
    sent = [http2.HELLO + call + _message(packed)]

    def bomb() -> bytes:
        return http2.exchange(server.port, sent, at_most(10))

    with _grpc(tmp_path) as server, _healthy(server.port) as times:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: bomb(), range(200)))
        _assert_served(times)
        peak = server.memory()
    assert all(b"grpc-status\x018" in answer or b"\x0214" in answer for answer in answers)
    # The others are turned away as too many at once, which are more on a busy machine.
    assert sum(b"limits.ratio" in answer for answer in answers) > (20 if IS_FULL else 0)
    assert peak < _MOST_MEMORY


@pytest.mark.timed
def test_metadata_that_is_named_again_and_again(tmp_path: Path) -> None:
    """Eight senders of calls, 90 on a connection, that name the same 4 KB 500 times: two bytes of
    HPACK would be 2 MB in each of them."""
    again = http2.again(_LOGS.encode(), b"v" * 3900, 500)
    calls = [
        http2.frame(http2.HEADERS, http2.END_HEADERS, 2 * n + 1, b) for n, b in enumerate(again)
    ]

    def send(_: int) -> None:
        http2.exchange(server.port, [http2.HELLO, *calls], 0.5)

    with _grpc(tmp_path) as server, _healthy(server.port) as times:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(40)))
        _assert_served(times)
        peak = server.memory()
    assert peak < _MOST_MEMORY


def test_many_large_messages(tmp_path: Path) -> None:
    """64 honest clients with 8 MB each, of which nothing can be decoded: answered, in memory that
    is bounded, and no small call fails meanwhile. Where a machine is so slow that they are slow
    senders, some make way."""
    large = b"\xff" * 8_000_000
    codes: list[grpc.StatusCode] = []

    def send(_: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(_LOGS)(large, timeout=WAIT_SECONDS)
            codes.append(caught.value.code())

    with _grpc(tmp_path) as server, _healthy(server.port):
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(send, range(64)))
        peak = server.memory()
    again = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert set(codes) <= {grpc.StatusCode.INVALID_ARGUMENT} | again
    assert codes.count(grpc.StatusCode.INVALID_ARGUMENT) > 4
    assert peak < _MOST_MEMORY


def _message(body: bytes) -> bytes:
    """A compressed message in frames of the largest size."""
    data = b"\1" + len(body).to_bytes(4, "big") + body
    parts = [data[at : at + 16384] for at in range(0, len(data), 16384)]
    last = len(parts) - 1
    return b"".join(
        http2.frame(http2.DATA, http2.END_STREAM if at == last else 0, 1, part)
        for at, part in enumerate(parts)
    )
