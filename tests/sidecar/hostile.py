"""A program that replaces a worker and floods the keeper, in one way for each name of
``FLOODS``."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count, cycle
from pathlib import Path
from random import Random
from time import sleep

from collector.contracts import CATEGORIES, REJECTIONS, PendingBatch, Tally, to_minute
from collector.schema.stored_document import unpacked
from collector.server.channel import BatchCode, framed, frames_of_keeper
from collector.server.messages import (
    ErrorSeen,
    LibrarySeen,
    Put,
    PutBatch,
    PutTally,
    Ready,
    Report,
    Setup,
)

CANARY = "canary-of-a-hostile-worker"
_LINE = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","os.type":"linux"}\n'
_SECRET = b'{"schema":"conferencing/1.0.0","client.address":"203.0.113.7","chat":"%b"}\n'


def take_place(folder: str, flood: str) -> None:
    """Replace the first worker that comes here with a hostile program; other workers go on."""
    try:
        Path(folder, "hostile").touch(exist_ok=False)
    except FileExistsError:
        return
    channel, keys = (socket.socket(fileno=int(text)) for text in sys.argv[-2:])
    with suppress(OSError):
        code = _begun(channel)
        for data in FLOODS[flood](code, channel, keys):
            channel.sendall(data)
    os._exit(0)


def _begun(channel: socket.socket) -> BatchCode:
    """Receive what a worker receives, and report that it is ready."""
    socket.recv_fds(channel, 1, 16)
    frames = frames_of_keeper()
    while True:
        for message, _ in frames.feed(channel.recv(1 << 16)):
            assert isinstance(message, Setup)
            channel.sendall(framed(Ready(is_confined=True)))
            return BatchCode([*map(unpacked, message.schemas)])


def _put(code: BatchCode, number: int, payload: bytes) -> bytes:
    lines = payload.count(b"\n")
    layout, minute = code._codes[0].layout, to_minute(datetime.now(UTC))
    tally = Tally(lines, lines, bytes_in=5, bytes_out=len(payload))
    batch = PendingBatch(layout, minute, payload, tally)
    return framed(code.put(number, None, [batch])) + payload


def _empty(number: int, times: int) -> bytes:
    """Batches without records."""
    rejected = [1] + [0] * (len(REJECTIONS) - 1)
    tally = PutTally(1, 0, rejected, {}, [0] * len(CATEGORIES), 9, 0)
    minute = int(datetime.now(UTC).timestamp()) // 60
    return framed(Put(number, None, [PutBatch(0, minute, None, tally, 0)] * times))


_Flood = Callable[[BatchCode, socket.socket, socket.socket], Iterator[bytes]]


def _never_reading(code: BatchCode, *_: socket.socket) -> Iterator[bytes]:
    return (_put(code, number, _LINE) for number in count())


def _small(_: BatchCode, channel: socket.socket, __: socket.socket) -> Iterator[bytes]:
    for number in count():
        yield b"".join(_empty(number, 1) for _ in range(100))
        with suppress(BlockingIOError):
            channel.recv(1 << 16, socket.MSG_DONTWAIT)


def _many(_: BatchCode, channel: socket.socket, __: socket.socket) -> Iterator[bytes]:
    for number in count():
        yield _empty(number, 10_000)
        with suppress(BlockingIOError):
            channel.recv(1 << 16, socket.MSG_DONTWAIT)


def _large(code: BatchCode, channel: socket.socket, _: socket.socket) -> Iterator[bytes]:
    payload = _LINE * ((60 << 20) // len(_LINE))
    for number in range(3):
        yield _put(code, number, payload)
        channel.recv(1 << 16)
    sleep(60)


def _half(code: BatchCode, *_: socket.socket) -> Iterator[bytes]:
    yield _put(code, 1, _LINE * ((60 << 20) // len(_LINE)))[: -(1 << 20)]
    sleep(60)


def _errors(*_: object) -> Iterator[bytes]:
    random = Random()
    while True:
        numbers = ((random.randrange(60), random.randrange(200)) for _ in range(500))
        yield b"".join(framed(ErrorSeen(*pair, random.randrange(9999))) for pair in numbers)


def _libraries(*_: object) -> Iterator[bytes]:
    return cycle([framed(LibrarySeen(0)) * 500])


def _asking(_: BatchCode, __: socket.socket, keys: socket.socket) -> Iterator[bytes]:
    while True:
        keys.sendall(bytes(10) * 100)
    yield b""


def _lying(*_: object) -> Iterator[bytes]:
    yield framed(Report([1] * 90, [1.0] * 6, [0] * 69, 1))
    sleep(60)


def _content(code: BatchCode, *_: socket.socket) -> Iterator[bytes]:
    yield _put(code, 1, _SECRET % CANARY.encode())
    sleep(60)


def _arbitrary(*_: object) -> Iterator[bytes]:
    random = Random()
    while True:
        yield random.randbytes(1 << 16)


FLOODS: dict[str, _Flood] = {
    "it never reads": _never_reading,
    "small messages": _small,
    "many batches": _many,
    "large requests": _large,
    "half a message": _half,
    "errors": _errors,
    "libraries": _libraries,
    "keys": _asking,
    "a lie": _lying,
    "content": _content,
    "arbitrary bytes": _arbitrary,
}
