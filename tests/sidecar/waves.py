"""Waves of small compressed bodies that would expand greatly, over many connections, repeatedly.

``attacked`` sends them to one port, while honest senders send small bodies. It returns how each
request was answered, and how long that took.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import monotonic

from collector.contracts import MOST_BYTES
from collector.ingest.decompression import zstd_library
from tests.sidecar.senders import METHODS
from tests.support import http2

_BLANKS = MOST_BYTES - 1000
_EVENT = b'{"ip_address":"203.0.113.7","device_type":"phone","os":{"type":"linux"},"chat":[]}\n'
_LATE_SECONDS = 60.0
"""A slower response counts as missing."""
_HONEST_PAUSE_SECONDS = 0.02
_GRPC_STATUS = re.compile(rb"grpc-status[\x01\x02](\d+)")


@dataclass(frozen=True)
class Bomb:
    """A compressed body. Its last ``held`` bytes are sent only after ``seconds``."""

    encoding: str
    content: Callable[[], bytes]
    held: int = 0
    seconds: float = 0.0


@cache
def _zstd(window: int, size: int = _BLANKS, cut: int = 0, *, declares: bool = False) -> bytes:
    """A bracket and blanks, with a window of this many bits, without the last ``cut`` bytes."""
    library = zstd_library()
    options = {library.CompressionParameter.window_log: window}
    compressor = library.ZstdCompressor(options=options)
    plain = b"[" + b" " * (size - 1)
    if declares:
        compressor.set_pledged_input_size(len(plain))
    wire: bytes = compressor.compress(plain) + compressor.flush()
    return wire[: len(wire) - cut]


@cache
def _gzip(size: int) -> bytes:
    return gzip.compress(b"[" + b" " * (size - 1), 9)


@cache
def _deflate(size: int) -> bytes:
    return zlib.compress(b"[" + b" " * (size - 1), 9)


@cache
def _frames() -> bytes:
    return bytes(zstd_library().compress(b" ")) * 100


_MIB = 1 << 20
BOMBS: Mapping[str, Bomb] = {
    "zstd, window 2^24": Bomb("zstd", lambda: _zstd(24)),
    "zstd, window 2^23": Bomb("zstd", lambda: _zstd(23)),
    "zstd, window 2^18": Bomb("zstd", lambda: _zstd(18)),
    "zstd, window 2^23, without an end": Bomb("zstd", lambda: _zstd(23, cut=4)),
    "zstd, window 2^23, 1 MiB": Bomb("zstd", lambda: _zstd(23, _MIB)),
    "zstd, 15 MiB in one segment": Bomb("zstd", lambda: _zstd(23, declares=True)),
    "zstd, 1 MiB in one segment": Bomb("zstd", lambda: _zstd(23, _MIB, declares=True)),
    "zstd, tiny frames": Bomb("zstd", _frames),
    "zstd, all but a byte": Bomb("zstd", lambda: _zstd(23), 1, 3.0),
    "gzip": Bomb("gzip", lambda: _gzip(_BLANKS)),
    "gzip, 1 MiB": Bomb("gzip", lambda: _gzip(_MIB)),
    "deflate": Bomb("deflate", lambda: _deflate(_BLANKS)),
    "deflate, 1 MiB": Bomb("deflate", lambda: _deflate(_MIB)),
}
"""Bombs by name. A large window is accepted only if a body may need it."""


@dataclass
class Answers:
    """How requests were answered: by status; how often a retry was requested without a time; and
    the longest time. ``lost`` counts connections that ended without a response."""

    statuses: Counter[int] = field(default_factory=Counter)
    untold: int = 0
    lost: int = 0
    longest: float = 0.0

    def add(self, answer: bytes, seconds: float) -> None:
        """Add the head of a response, the outcome of a call, or nothing."""
        self.longest = max(self.longest, seconds)
        called = _GRPC_STATUS.search(answer)
        if called is None and not answer.startswith(b"HTTP/1.1 "):
            self.lost += 1
            return
        status = int(answer[9:12] if called is None else called[1])
        self.statuses[status] += 1
        self.untold += status == 503 and b"\r\nretry-after:" not in answer.lower()


@dataclass(frozen=True)
class Sent:
    """The bytes of a request; the last ``held`` bytes are sent after some seconds."""

    request: bytes
    held: int = 0
    seconds: float = 0.0

    @property
    def is_call(self) -> bool:
        """Whether it is a gRPC call."""
        return self.request.startswith(http2.PREFACE)


def posted(
    bomb: Bomb | None, body: bytes, headers: Mapping[str, str], start: str = "POST /v1/events"
) -> Sent:
    """An HTTP request that closes its connection."""
    fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    if bomb is not None:
        fields["Content-Encoding"] = bomb.encoding
    lines = [f"{name}: {text}" for name, text in {**fields, **headers}.items()]
    request = "\r\n".join([f"{start} HTTP/1.1", *lines, "", ""]).encode() + body
    return Sent(request) if bomb is None else Sent(request, bomb.held, bomb.seconds)


def called(bomb: Bomb | None, body: bytes) -> Sent:
    """A call of gRPC's logs, on its own connection."""
    path = METHODS["logs"].encode()
    if bomb is None:
        return Sent(http2.HELLO + http2.call(path) + http2.message(body))
    opened = http2.HELLO + http2.call(path, {b"grpc-encoding": bomb.encoding.encode()})
    return Sent(opened + http2.message(body, flag=1), bomb.held, bomb.seconds)


async def _exchange(port: int, sent: Sent, answers: Answers) -> None:
    began, answer = monotonic(), b""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_LATE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent.request[: len(sent.request) - sent.held])
            if sent.held:
                await asyncio.sleep(sent.seconds)
                began = monotonic()
                writer.write(sent.request[-sent.held :])
            if not sent.is_call:
                answer = await reader.readuntil(b"\r\n\r\n")
            while sent.is_call and not _GRPC_STATUS.search(answer):
                part = await reader.read(1 << 16)
                answer += part
                if not part:
                    break
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.close()
    answers.add(answer, monotonic() - began)


async def _honest(port: int, sent: Sent, over: asyncio.Event) -> Answers:
    answers = Answers()
    while not over.is_set():
        await _exchange(port, sent, answers)
        await asyncio.sleep(_HONEST_PAUSE_SECONDS)
    return answers


async def _waves(
    port: int, sent: Sent, honest: Sequence[Sent], connections: int, waves: int
) -> tuple[Answers, list[Answers]]:
    over, answers = asyncio.Event(), Answers()
    senders = [asyncio.create_task(_honest(port, each, over)) for each in honest]
    for _ in range(waves):
        await asyncio.gather(*(_exchange(port, sent, answers) for _ in range(connections)))
    over.set()
    return answers, [await each for each in senders]


def attacked(
    port: int, sent: Sent, honest: Sequence[Sent], connections: int, waves: int
) -> tuple[Answers, list[Answers]]:
    """Send waves of one request over this many connections at once. Return the answers to them, and
    to each honest sender, who sends one request after another meanwhile."""
    return asyncio.run(_waves(port, sent, honest, connections, waves))


def honest_posts() -> list[Sent]:
    """Requests of honest senders: plain lines, and lines in gzip, zstd and zlib's format."""
    kind = {"Content-Type": "application/x-ndjson"}
    lines = _EVENT * 10
    packed = {
        "gzip": gzip.compress(lines),
        "zstd": bytes(zstd_library().compress(lines)),
        "deflate": zlib.compress(lines),
    }
    bombs = {name: Bomb(name, bytes) for name in packed}
    return [posted(None, lines, kind)] + [
        posted(bombs[name], body, kind) for name, body in packed.items()
    ]


def honest_calls() -> list[Sent]:
    """Calls of honest senders: a plain message, and one in gzip."""
    message = b"\x0a\x18\x12\x16\x12\x14\x32\x12\x0a\x07os.type\x12\x07\x0a\x05linux"
    packed = gzip.compress(message)
    return [called(None, message), called(Bomb("gzip", bytes), packed)]
