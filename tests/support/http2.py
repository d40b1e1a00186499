"""Just enough HTTP/2 to send what no client library would send."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from tests.support.deadline import WAIT_SECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, CONTINUATION = 0, 1, 4, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
_FRAME = 16384


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame in wire format."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


HELLO = PREFACE + frame(SETTINGS, 0, 0)


def _integer(value: int) -> bytes:
    """Encode an integer for HPACK, with a prefix of seven bits."""
    if value < 127:
        return bytes([value])
    out, value = bytearray([127]), value - 127
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _header(name: bytes, value: bytes) -> bytes:
    return b"\0" + _integer(len(name)) + name + _integer(len(value)) + value


def call(
    path: bytes, headers: Mapping[bytes, bytes | None] | None = None, *, stream: int = 1
) -> bytes:
    """The frames that open a call. ``headers`` override the usual ones; ``None`` leaves a header
    out."""
    all_headers: dict[bytes, bytes | None] = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    all_headers |= headers or {}
    block = b"".join(_header(name, v) for name, v in all_headers.items() if v is not None)
    parts = [block[at : at + _FRAME] for at in range(0, len(block), _FRAME)]
    kinds = [HEADERS, *[CONTINUATION] * (len(parts) - 1)]
    last = len(parts) - 1
    return b"".join(
        frame(kind, END_HEADERS if at == last else 0, stream, part)
        for at, (kind, part) in enumerate(zip(kinds, parts, strict=True))
    )


def again(path: bytes, value: bytes, times: int, calls: int = 90) -> Iterator[bytes]:
    """Yield blocks of headers for calls of one connection. The first block puts a header into
    HPACK's table; each block then refers to it ``times`` times."""
    usual = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"localhost"}
    usual |= {b"te": b"trailers", b"content-type": b"application/grpc"}
    block = b"".join(_header(name, value) for name, value in usual.items())
    known = b"\x40" + _integer(1) + b"x" + _integer(len(value)) + value
    for number in range(calls):
        yield block + (b"" if number else known) + b"\xbe" * times


def message(body: bytes, *, flag: int = 0, length: int | None = None, stream: int = 1) -> bytes:
    """A gRPC message as the last data of a stream."""
    size = len(body) if length is None else length
    return frame(DATA, END_STREAM, stream, struct.pack(">BI", flag, size) + body)


def exchange(port: int, sent: Iterable[bytes], seconds: float = WAIT_SECONDS) -> bytes:
    """Return everything that comes back until a call's status arrives, the peer closes, or the time
    is over."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
        with suppress(ConnectionError):  # the server may close before it has read everything
            for part in sent:
                connection.sendall(part)
        until = time.monotonic() + seconds
        connection.settimeout(0.1)
        while time.monotonic() < until:
            try:
                data = connection.recv(1 << 16)
            except TimeoutError:
                if b"grpc-status" in got:
                    break
                continue
            except ConnectionError:
                break
            if not data:
                break
            got += data
    return got
