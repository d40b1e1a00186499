"""What must still work in a confined process: to receive, decode, answer, fail and stop."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.decompression import zstd_library
from collector.ingest.grpc import METHODS
from tests.sandbox.confined import Confined, confined, post, requests
from tests.support.deadline import WAIT_SECONDS

Pair = tuple[Path, Path, Path]
_STATUSES = [b"200", b"400", b"200", b"200", b"400", b"200", b"200", b"404"]


def _context(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair[2]))


def _statuses(worker: Confined, port: str, context: ssl.SSLContext | None) -> list[bytes]:
    sent = requests(zstd_library().compress)
    return [post(worker.ports[port], context, *each).split()[1] for each in sent]


def _call(worker: Confined, pair: Pair, compression: Any = None) -> bytes:
    trusted = grpc.ssl_channel_credentials(pair[2].read_bytes())
    with grpc.secure_channel(f"localhost:{worker.ports['grpc']}", trusted) as channel:
        call: Callable[..., bytes] = channel.unary_unary(next(iter(METHODS)))
        return call(b"", timeout=WAIT_SECONDS, compression=compression)


def test_http(worker: Confined) -> None:
    """JSON, lines, gzip, zstd, OTLP in both encodings, damaged input, and no such path."""
    assert _statuses(worker, "plain", None) == _STATUSES


def test_tls(worker: Confined, pair: Pair) -> None:
    """A handshake for each, as for new clients."""
    assert _statuses(worker, "encrypted", _context(pair)) == _STATUSES


def test_a_large_body(worker: Confined) -> None:
    """It is decompressed in a thread of a pool that starts only then."""
    body = b'{"os": {"name": "Linux"}}\n' * 100_000
    packed = zstd_library().compress(body)
    answer = post(worker.ports["plain"], None, "application/x-ndjson", "zstd", "/v1/events", packed)
    assert answer.split()[1] in (b"200", b"413"), answer[:200]


def test_grpc(worker: Confined, pair: Pair) -> None:
    """Plain and compressed, and more calls at once than there were threads."""
    assert _call(worker, pair) == b""
    assert _call(worker, pair, grpc.Compression.Gzip) == b""
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: _call(worker, pair), range(24))) == [b""] * 24


def test_exceptions(worker: Confined) -> None:
    """A traceback is made, though no source can be read."""
    text = worker.ask("traceback")
    assert "ConfigError: one [E203]" in text
    assert text.endswith("RuntimeError: two\n")


def test_metrics(worker: Confined) -> None:
    """They are written, with nothing of ``/proc`` in them."""
    assert worker.ask("metrics_text") > 0


def test_threads(worker: Confined) -> None:
    """The C library starts one by ``clone``, as ``clone3`` is not there."""
    assert worker.ask("threads", 20) == 20


@pytest.mark.parametrize("schema", ["webrtc", "participants-qos"])
def test_nothing_is_imported_and_it_stops(pair: Pair, schema: str) -> None:
    """After the warm-up, whatever is sent; with another schema, which derives fields."""
    with confined(pair[:2], pair[2], schema=schema) as worker:
        assert set(_statuses(worker, "plain", None)) <= {b"200", b"400", b"404"}
        assert set(_statuses(worker, "encrypted", _context(pair))) <= {b"200", b"400", b"404"}
        _call(worker, pair, grpc.Compression.Gzip)
        worker.ask("traceback")
        assert worker.ask("imported") == []
        worker.process.terminate()
        said, complained = worker.process.communicate(timeout=WAIT_SECONDS)
        assert said == "stopped in good order\n"
        assert complained == ""
        assert worker.process.returncode == 0
