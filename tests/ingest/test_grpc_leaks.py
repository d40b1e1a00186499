"""Canaries in every place of a gRPC call: none comes back, none is logged, none is printed.

The receiver runs in a process of its own, whose loggers all write to stderr at DEBUG.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from collector.ingest.grpc import METHODS
from collector.testing import canaries, scan
from tests.ingest import http2
from tests.ingest.receiving import receiving

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
    """What no library would send."""
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
        (b"fail" + canary, 0, None),
        (b"full" + canary, 0, None),
    ):
        yield opened + http2.message(body, flag=flag, length=length)
    yield canary
    yield http2.HELLO + http2.frame(99, 0, 0, canary)


def _raw(port: int, canary: bytes) -> list[bytes]:
    """What comes back for them."""
    with ThreadPoolExecutor(8) as pool:
        calls = _odd_calls(canary)
        return list(pool.map(lambda call: http2.exchange(port, [call], 0.7), calls))


def _polite(port: int, canary: str) -> Iterator[str]:
    """What a client of the library is told."""
    options = (("grpc.primary_user_agent", canary), ("grpc.default_authority", canary))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        for method in (*METHODS, f"/{canary}/Export"):
            for body in (canary.encode(), b"fail" + canary.encode(), b"", bytes(5 << 20)):
                metadata = ((canary, canary), (f"{canary}-bin", canary.encode()))
                try:
                    answer = channel.unary_unary(method)(body, metadata=metadata, timeout=20)
                    yield str(answer)
                except grpc.RpcError as error:
                    yield f"{error.details()} {error.trailing_metadata()}"
                    yield str(error.initial_metadata())


@pytest.mark.parametrize("verbosity", ["", "debug"])
@pytest.mark.parametrize("arguments", [(), ("tokens",)])
def test_no_canary_comes_back_or_is_said(
    tmp_path: Path, arguments: tuple[str, ...], verbosity: str
) -> None:
    """Answers, stdout and stderr; with and without tokens; also while the library says much."""
    (canary,) = canaries(1)
    environment = {"GRPC_VERBOSITY": verbosity} if verbosity else {}
    with receiving(tmp_path, *arguments, **environment) as (port, _):
        (tmp_path / "raw").write_bytes(b"\n".join(_raw(port, canary.encode())))
        (tmp_path / "polite").write_text("\n".join(_polite(port, canary)))
    assert (tmp_path / "raw").read_bytes().count(b"grpc-status") > 20
    assert scan(tmp_path, [canary]) == []
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    (tmp_path / "planted").write_bytes(http2.call(_LOGS, {b"x": canary.encode()}))
    assert len(scan(tmp_path, [canary])) == 1


@pytest.mark.parametrize("name", [b"CANARY", b":canary", b"canary-bin"])
def test_what_is_out_of_our_hands(tmp_path: Path, name: bytes) -> None:
    """A capital or a colon in the name of a header, or binary metadata that is not base64, is
    against the protocol: newer libraries tell the sender which name it was, and nobody else."""
    with receiving(tmp_path) as (port, _):
        sent = [http2.HELLO, http2.call(_LOGS, {name: b"secret!"}), http2.message(b"")]
        answer = http2.exchange(port, sent)
    assert b"secret" not in answer
    assert name not in (tmp_path / "stderr").read_bytes()
