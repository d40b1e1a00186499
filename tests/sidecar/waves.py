"""Waves of small compressed bodies that would grow large: many connections, again and again.

``attacked`` sends them to one port; honest senders of small bodies send beside them. It tells how
each request was answered, and after how long.
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import Any

from collector.ingest.decompression import zstd_library

__all__ = ["BOMBS", "Answers", "Bomb", "attacked", "posted"]

_BLANKS = 15 << 20
_EVENT = b'{"ip_address":"203.0.113.7","device_type":"phone","os":{"type":"linux"},"chat":[]}\n'
_LATE_SECONDS = 60.0
"""A response that takes longer never came."""
_HONEST_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Bomb:
    """A compressed body. ``held`` bytes of its end come only after ``seconds``."""

    encoding: str
    content: Callable[[], bytes]
    held: int = 0
    seconds: float = 0.0


@cache
def _zstd(window: int, size: int = _BLANKS, cut: int = 0, *, declares: bool = False) -> bytes:
    """A bracket and blanks, in a window of so many bits, without the last ``cut`` bytes."""
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
"""What is sent, by name. A large window is taken only where a body can need it."""


@dataclass
class Answers:
    """How requests were answered: by status, those to come again without being told when, and the
    longest time that one took. ``lost`` are connections that ended without a response."""

    statuses: Counter[int] = field(default_factory=Counter)
    untold: int = 0
    lost: int = 0
    longest: float = 0.0

    def add(self, head: bytes, seconds: float) -> None:
        """Add the response with this head, or none."""
        self.longest = max(self.longest, seconds)
        if not head.startswith(b"HTTP/1.1 "):
            self.lost += 1
            return
        status = int(head[9:12])
        self.statuses[status] += 1
        self.untold += status == 503 and b"\r\nretry-after:" not in head.lower()


def posted(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request that closes its connection."""
    fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    lines = [f"{name}: {text}" for name, text in {**fields, **headers}.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + body


async def _exchange(port: int, request: bytes, bomb: Bomb | None, answers: Answers) -> None:
    began, head = monotonic(), b""
    held = 0 if bomb is None else bomb.held
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_LATE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request[: len(request) - held])
            if held and bomb is not None:
                await asyncio.sleep(bomb.seconds)
                began = monotonic()
                writer.write(request[-held:])
            head = await reader.readuntil(b"\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.close()
    answers.add(head, monotonic() - began)


async def _honest(port: int, request: bytes, over: asyncio.Event) -> Answers:
    answers = Answers()
    while not over.is_set():
        await _exchange(port, request, None, answers)
        await asyncio.sleep(_HONEST_PAUSE_SECONDS)
    return answers


async def _waves(
    port: int, bomb: Bomb, request: bytes, honest: list[bytes], connections: int, waves: int
) -> tuple[Answers, list[Answers]]:
    over, answers = asyncio.Event(), Answers()
    senders = [asyncio.create_task(_honest(port, each, over)) for each in honest]
    for _ in range(waves):
        requests = (_exchange(port, request, bomb, answers) for _ in range(connections))
        await asyncio.gather(*requests)
    over.set()
    return answers, [await each for each in senders]


def attacked(
    port: int, bomb: Bomb, connections: int, waves: int, *, more: Mapping[str, Any] | None = None
) -> tuple[Answers, list[Answers]]:
    """Send waves of a bomb; return the answers to these, and to the honest senders: of plain lines,
    of gzip and of zstd."""
    kind = {"Content-Type": "application/json", **(more or {})}
    headers = {**kind, "Content-Encoding": bomb.encoding}
    request = posted("/v1/events", bomb.content(), headers)
    lines, small = {**kind, "Content-Type": "application/x-ndjson"}, _EVENT * 10
    packed = {"gzip": gzip.compress(small), "zstd": bytes(zstd_library().compress(small))}
    honest = [posted("/v1/events", small, lines)]
    honest += [
        posted("/v1/events", body, {**lines, "Content-Encoding": encoding})
        for encoding, body in packed.items()
    ]
    return asyncio.run(_waves(port, bomb, request, honest, connections, waves))
