"""Bombs over gRPC: refused in time, in little memory, while others are served."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.grpc import METHODS
from tests.ingest import http2
from tests.ingest.receiving import receiving

_LOGS = next(iter(METHODS))
_GOOD = b"\x0a\x18\x12\x16\x12\x14\x32\x12\x0a\x07os.type\x12\x07\x0a\x05linux"
_MOST_MEMORY = 256 << 20


def _packed(mebibytes: int, window: int) -> bytes:
    """So many mebibytes of nothing; in the window of a stream, so that no credit is needed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    nothing = bytes(1 << 20)
    parts = [packer.compress(nothing) for _ in range(mebibytes)]
    packed = b"".join([*parts, packer.flush()])
    assert len(packed) < 64_000
    return packed


def _peak(process: int) -> int:
    """Bytes of memory that a process has had at most."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise AssertionError


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
                assert export(_GOOD, timeout=20) == b""
                times.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            yield times
        finally:
            over.set()
            future.result(30)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_compressed_bombs(tmp_path: Path, encoding: bytes) -> None:
    """200 messages, 16 at a time, of 60 KB that would be 60 MiB."""
    packed = _packed(60, 31 if encoding == b"gzip" else 15)
    call = http2.call(_LOGS.encode(), {b"grpc-encoding": encoding})
    sent = [http2.HELLO + call + _message(packed)]
    with receiving(tmp_path) as (port, process), _healthy(port) as times:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: http2.exchange(port, sent, 10), range(200)))
        peak = _peak(process)
    assert all(b"grpc-status\x018" in answer or b"\x0214" in answer for answer in answers)
    assert sum(b"grows too much" in answer for answer in answers) > 20
    assert peak < _MOST_MEMORY
    assert len(times) > 2


def test_metadata_that_is_named_again_and_again(tmp_path: Path) -> None:
    """Eight senders of calls, 90 on a connection, that name the same 4 KB 500 times: two bytes of
    HPACK would be 2 MB in each of them."""
    again = http2.again(_LOGS.encode(), b"v" * 3900, 500)
    calls = [
        http2.frame(http2.HEADERS, http2.END_HEADERS, 2 * n + 1, b) for n, b in enumerate(again)
    ]

    def send(_: int) -> None:
        http2.exchange(port, [http2.HELLO, *calls], 0.5)

    with receiving(tmp_path) as (port, process), _healthy(port) as times:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(40)))
        peak = _peak(process)
    assert peak < _MOST_MEMORY
    assert len(times) > 2


def test_many_large_messages(tmp_path: Path) -> None:
    """64 honest clients with 4 MB each, of which nothing can be decoded: answered, in memory that
    is bounded, and no small call fails meanwhile. Where a machine is so slow that they are slow
    senders, some make way."""
    large = b"\xff" * 4_000_000
    codes: list[grpc.StatusCode] = []

    def send(_: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(_LOGS)(large, timeout=60)
            codes.append(caught.value.code())

    with receiving(tmp_path) as (port, process), _healthy(port):
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(send, range(64)))
        peak = _peak(process)
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
