"""A worker: the process that receives and filters. Started by the keeper, with a clean environment.

``python -m collector.server.worker CHANNEL KEYS`` gets two sockets and, over the first one, all
that it needs. It has no file, no ledger key and no sink's credential. It sends batches over the
channel, and answers a sender once the keeper has stored them.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import gzip
import os
import signal
import socket
import sys
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock

import uvloop

from collector.contracts import PendingBatch, RequestKey, Written
from collector.errors import ConfigError, SandboxError
from collector.filter import Filter
from collector.filter.derive import parse_user_agent
from collector.filter.live_sample import LiveSample
from collector.ingest.decompression import zstd_library
from collector.ingest.http import EventsHandler
from collector.ingest.limits import ConnectionLimiter, IngestLimits
from collector.ingest.memory import MemoryBudget
from collector.ingest.protocol import HardenedProtocol
from collector.intake import Acceptor
from collector.ops.error_log import LIBRARIES, ErrorLog, LibraryLogHandler
from collector.sandbox import forbid_io_uring, restrict_calls, restrict_files
from collector.schema.stored_document import unpacked
from collector.server import clear_switches, harden
from collector.server.channel import Channel, ChannelQueue, framed, frames_of_keeper
from collector.server.lifecycle import on_loop_error
from collector.server.messages import (
    Answers,
    Ask,
    ErrorSeen,
    Failed,
    FromKeeper,
    LibrarySeen,
    LiveSeen,
    Look,
    Ready,
    Report,
    Setup,
    Stop,
    error_types,
    modules,
)
from collector.server.wiring import Receiver, Wiring

_MOST_FDS = 16
_KEY_BYTES = 32
_PR_SET_PDEATHSIG = 1
_NO_PERIOD = -1
_LAST_SECONDS = 1.0
"""How long the keeper may take to read why a worker did not start."""
_LIBRARIES = sorted(LIBRARIES)

_EVENT = b'{"ip":"192.0.2.1"}'
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
_OTLP = ("logs", "traces", "metrics")
_JSON, _PROTOBUF = b"application/json", b"application/x-protobuf"
_FORMS = [
    (b"/v1/events", _JSON, _EVENT),
    (b"/v1/events", _JSON, b"{"),
    (b"/v1/events", b"application/x-ndjson", _EVENT + b"\n" + _EVENT + b"\n{"),
    (b"/v1/records", b"application/x-ndjson", b'{"schema":"none"}\n'),
    (b"/v1/nothing", _JSON, _EVENT),
    *((f"/v1/{signal}".encode(), _JSON, b"{}") for signal in _OTLP),
    *((f"/v1/{signal}".encode(), _PROTOBUF, b"") for signal in _OTLP),
    *((f"/v1/{signal}".encode(), _PROTOBUF, b"\x0a\x02\x12\x00") for signal in _OTLP),
]
"""Paths, types and bodies, some of which are refused."""


def main(kind: type[Worker] | None = None) -> None:
    """Run a worker until the keeper stops it or is gone. A check passes its own ``kind``."""
    clear_switches()
    harden()
    keepers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    for number in keepers:
        signal.signal(number, signal.SIG_IGN)  # the keeper gets the signal, and stops its workers
    channel, keys = (socket.socket(fileno=int(text)) for text in sys.argv[1:3])
    setup, sockets = _received(channel)
    _end_with(setup.keeper)
    if setup.confine:
        with suppress(SandboxError):  # without it, the worker says that it is not confined
            forbid_io_uring()
    channel.setblocking(False)
    with asyncio.Runner(debug=False, loop_factory=uvloop.new_event_loop) as runner:
        runner.run((kind or Worker)(setup, sockets, keys).run(channel))
    os._exit(0)


def _received(channel: socket.socket) -> tuple[Setup, list[socket.socket]]:
    """Wait for the first message, and the listening sockets that come before it."""
    data, handed, _, _ = socket.recv_fds(channel, 1, _MOST_FDS)
    frames = frames_of_keeper()
    while data:
        data = channel.recv(1 << 16)
        for setup, _ in frames.feed(data):
            assert isinstance(setup, Setup)  # noqa: S101 - it comes first
            return setup, [socket.socket(fileno=number) for number in handed]
    os._exit(1)  # the keeper has found a fault, or is gone


def _end_with(keeper: int) -> None:
    """Have the kernel end this process when the keeper ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(1)


class RemoteKeyring:
    """Asks the keeper for the keys of pseudonyms, so that they are the same in all workers.

    Call it as a ``Keyring``. The keeper's clock decides the period, and one key for each reference
    is remembered. Safe to use from several threads.
    """

    def __init__(self, keys: socket.socket, references: Sequence[str]) -> None:
        self._socket = keys
        self._numbers = {reference: number for number, reference in enumerate(references)}
        self._keys: dict[str, tuple[int, bytes]] = {}
        self._lock = Lock()

    def __call__(self, reference: str, period: int) -> bytes:
        known, key = self._keys.get(reference, (_NO_PERIOD, b""))
        return key if known == period else self._ask(reference, period)

    def _ask(self, reference: str, period: int) -> bytes:
        with self._lock:
            known, key = self._keys.get(reference, (_NO_PERIOD, b""))
            if known == period:
                return key
            number = self._numbers[reference]
            self._socket.sendall(number.to_bytes(2, "big") + period.to_bytes(8, "big"))
            answer = b""
            while len(answer) < _KEY_BYTES + 8:
                part = self._socket.recv(_KEY_BYTES + 8 - len(answer))
                if not part:
                    os._exit(1)
                answer += part
            found = int.from_bytes(answer[:8], "big"), answer[8:]
            self._keys[reference] = found
        return found[1]


class ChannelLog(ErrorLog):
    """Sends unexpected errors and messages of libraries to the keeper, as numbers."""

    def __init__(self, send: Callable[[list[bytes]], None]) -> None:
        self._send = send
        self._errors = {name: number for number, name in enumerate(error_types())}
        self._modules = {name: number for number, name in enumerate(modules())}

    def error_at(self, kind: str, place: str) -> None:
        """Send the type and the place of an error."""
        module, _, line = place.partition(":")
        number = self._errors.get(kind, self._errors["Exception"])
        self._send([framed(ErrorSeen(number, self._modules.get(module), int(line or 0)))])

    def library(self, name: str) -> None:
        """Report that a library logged a message."""
        known = name.partition(".")[0]
        number = _LIBRARIES.index(known if known in LIBRARIES else "other")
        self._send([framed(LibrarySeen(number))])


class Worker:
    """A worker, from its first message to its end."""

    channel: Channel[FromKeeper]
    _wiring: Wiring

    def __init__(self, setup: Setup, sockets: list[socket.socket], keys: socket.socket) -> None:
        self._setup = setup
        self._sockets = sockets
        self._keyring = RemoteKeyring(keys, setup.keys)
        self._budget = MemoryBudget(IngestLimits(**setup.limits))  # type: ignore[arg-type]
        self._schemas = [*map(unpacked, setup.schemas)]
        self._stopping: asyncio.Future[float] | None = None

    async def run(self, connection: socket.socket) -> None:
        """Serve until the keeper stops the worker."""
        loop = asyncio.get_running_loop()
        self._stopping = loop.create_future()
        channel = self.channel = Channel(frames_of_keeper(), self._on_message, _end)
        self._queue = ChannelQueue(loop, channel, self._schemas)
        log = ChannelLog(self._queue.send)
        LibraryLogHandler(log).install()
        loop.set_exception_handler(partial(on_loop_error, log))
        await loop.create_unix_connection(lambda: channel, sock=connection)
        filters = [Filter(schema, keys=self._keyring) for schema in self._schemas]
        try:
            await _warm_up(filters, self._budget)
            wiring = Wiring(self._setup, self._sockets, filters, self._queue, self._budget)
            self._wiring = wiring
            is_confined = self._restrict(self._restrict_files)
            for receiver in wiring.receivers:
                await receiver.open()
            gc.collect()
            gc.freeze()  # what exists now stays; collections skip it
            is_confined = self._restrict(restrict_calls) and is_confined
            await self.serve(wiring.receivers, is_confined=is_confined)
        except ConfigError as error:
            channel.send(framed(Failed(not isinstance(error, SandboxError))))
            await asyncio.sleep(_LAST_SECONDS)
            return
        await asyncio.to_thread(wiring.acceptor.close)
        channel.send(framed(self._report()))

    async def serve(self, receivers: Sequence[Receiver], *, is_confined: bool) -> None:
        """Accept connections until the keeper stops the worker. Raises ``ConfigError``."""
        for receiver in receivers:
            await receiver.start()
        self.channel.send(framed(Ready(is_confined)))
        assert self._stopping is not None  # noqa: S101 - it is there while the loop runs
        seconds = await self._stopping
        await asyncio.gather(*(receiver.stop(seconds) for receiver in receivers))

    def _restrict_files(self) -> None:
        grpc = (each.port for each in self._setup.receivers if not each.has_socket)
        restrict_files([Path("/dev/urandom")], ports=grpc)

    def _restrict(self, restrict: Callable[[], None]) -> bool:
        """Give up rights; return whether that succeeded. Raises ``SandboxError`` if it must
        succeed."""
        if not self._setup.confine:
            return False
        try:
            restrict()
        except SandboxError:
            if self._setup.must_confine:
                raise
            return False
        return True

    def _on_message(self, message: FromKeeper, _: object) -> None:
        if isinstance(message, Answers):
            self._queue.answered(message)
        elif isinstance(message, Ask):
            self.channel.send(framed(self._report()))
        elif isinstance(message, Look):
            self._look(message)
        elif isinstance(message, Stop) and self._stopping and not self._stopping.done():
            self._stopping.set_result(message.seconds)

    def _look(self, asked: Look) -> None:
        """Start sampling events for so many seconds; report the sample of an earlier message."""
        sample = LiveSample()
        self._wiring.acceptor.watch = sample.look
        asyncio.get_running_loop().call_later(asked.seconds, self._tell_seen, asked.number, sample)

    def _tell_seen(self, number: int, sample: LiveSample) -> None:
        if self._wiring.acceptor.watch == sample.look:
            self._wiring.acceptor.watch = None
        each = (self._queue.code.seen(digest, seen) for digest, seen in sample.end().items())
        schemas = [counts for counts in each if counts is not None]
        self.channel.send(framed(LiveSeen(number, schemas)))

    def _report(self) -> Report:
        tokens, requests = self._wiring.tokens, self._wiring.requests
        unhashed = 0 if tokens is None else tokens.unhashed
        return Report(*requests.tables(), unhashed)


def _end(_: bool) -> None:
    """End at once: without the keeper, no sender can get an answer."""
    os._exit(1)


class _NoQueue:
    """Stores nothing."""

    def put(self, *_: PendingBatch, key: RequestKey | None = None) -> Written:
        """Pretend that the batches were stored."""
        future: Written = Future()
        future.set_result(None)
        return future


async def _warm_up(filters: Sequence[Filter], budget: MemoryBudget) -> None:
    """Load and try all that requests need, while files can still be opened.

    Libraries import late: at the first body of an encoding, the first event of a form, the first
    error. So the real handler receives one of each for each schema, over a pair of sockets, and
    discards the result. No started thread is left.
    """
    if any(each.schema.user_agent_paths for each in filters):
        parse_user_agent(_AGENT)
    names = [each.schema.name for each in filters]
    handler = EventsHandler(Acceptor(filters, _NoQueue()).accept, budget=budget, schemas=names)
    limiter = ConnectionLimiter(budget.limits)
    tasks: set[asyncio.Task[None]] = set()
    protocol = partial(HardenedProtocol, handler, limiter, tasks, None)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    await loop.connect_accepted_socket(protocol, theirs)
    with ours:
        for request in chain.from_iterable(map(_requests, names)):
            await loop.sock_sendall(ours, request)
            await loop.sock_recv(ours, 1 << 16)
    for connection in limiter.connections():
        connection.abort()
    await asyncio.sleep(0)
    executor.shutdown()
    loop.set_default_executor(ThreadPoolExecutor())


def _requests(schema: str) -> list[bytes]:
    asked = f"collector-schema: {schema}\r\n".encode()
    encodings = {b"gzip": gzip.compress(_EVENT), b"deflate": zlib.compress(_EVENT)}
    with suppress(ConfigError):
        encodings[b"zstd"] = zstd_library().compress(_EVENT)
    packed = [
        _request(b"/v1/events", _JSON, body, asked + b"content-encoding: %b\r\n" % encoding)
        for encoding, body in encodings.items()
    ]
    return [*packed, *(_request(*form, asked) for form in _FORMS)]


def _request(path: bytes, kind: bytes, body: bytes, more: bytes) -> bytes:
    lines = b"POST %b HTTP/1.1", b"host: localhost", b"content-type: %b", b"content-length: %d"
    head = b"\r\n".join(lines) % (path, kind, len(body))
    return b"%b\r\n%b\r\n%b" % (head, more, body)


if __name__ == "__main__":
    from collector.server import worker  # noqa: PLW0406 - under the name that error logs use

    worker.main()
