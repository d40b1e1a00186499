"""Bodies made to cost memory or time: refused soon, at little cost, and nobody else waits."""

from __future__ import annotations

import gzip
import http.client
import threading
import zlib
from pathlib import Path

import pytest

from collector.ingest.limits import MIB
from tests.ingest.serving import exchange, serving
from tests.ingest.zeros import zeros

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
        return zlib.compress(bytes(64 * MIB), 0)[: 4 * MIB], "deflate", 400
    return gzip.compress(bytes(8 * MIB) + _noise(90_000)), "gzip", 400


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
