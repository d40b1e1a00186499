"""A process that confines itself, and a line to it: to have it serve, and to have it try things.

``python -m tests.sandbox.confined`` takes JSON: what to listen on and what to be confined by. It
warms up, confines itself, says its ports, and from then on does what it is told over a socket.
"""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import uvloop

from collector.errors import ConfigError
from collector.sandbox import forbid_io_uring, restrict_calls, restrict_files
from collector.sandbox.attempts import ATTEMPTS
from tests.support import programs
from tests.support.deadline import WAIT_SECONDS

_ROOT = Path(__file__).parents[2]
EVENT = json.dumps(
    {
        "client": {"address": "192.0.2.7"},
        "os": {"name": "Linux"},
        "user_agent": {"original": "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"},
        "chat": {"text": "hello"},
    }
).encode()
LOGS = b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]}'


# -- the process --------------------------------------------------------------------------------


def main() -> None:
    """Serve until told to stop; exit with 3 if the kernel does not allow confinement."""
    options = json.loads(sys.argv[1])
    if options["seccomp"]:
        forbid_io_uring()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Worker(options).run())
    print("stopped in good order", flush=True)


class _Worker:
    """What serves: HTTP, HTTPS and gRPC, with a filter of its own and no disk."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._line = socket.socket(fileno=options["line"])
        self._plain = socket.socket(fileno=options["plain"])
        self._encrypted = socket.socket(fileno=options["encrypted"])

    async def run(self) -> None:
        """Warm up, confine, serve, and stop."""
        self._load()
        loop = asyncio.get_running_loop()
        for receiver in self._receivers:
            await receiver.start()
        with ThreadPoolExecutor() as executor:  # its threads end with the block
            loop.set_default_executor(executor)
            await self._warm_up()
        loop.set_default_executor(ThreadPoolExecutor())
        if self._options["landlock"]:
            restrict_files([Path("/dev/urandom")], ports=[0])
        grpc_port = self._grpc.start()
        if self._options["seccomp"]:
            restrict_calls()
        self._modules = set(sys.modules)
        self._ending = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self._ending.set)
        self._line.setblocking(False)
        self._line.send(json.dumps(grpc_port).encode() + b"\n")
        answering = asyncio.create_task(self._answer())
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait([answering, ending], return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
        answering.cancel()
        for receiver in self._receivers:
            await receiver.stop(5)
        await asyncio.to_thread(self._grpc.stop, 5)

    def _load(self) -> None:
        from prometheus_client import generate_latest  # noqa: PLC0415 - this half runs here

        from collector.config import Address  # noqa: PLC0415
        from collector.filter import Filter  # noqa: PLC0415
        from collector.ingest.decompression import zstd_library  # noqa: PLC0415
        from collector.ingest.grpc import GrpcServer  # noqa: PLC0415
        from collector.ingest.http import EventsHandler  # noqa: PLC0415
        from collector.ingest.limits import IngestLimits  # noqa: PLC0415
        from collector.ingest.memory import MemoryBudget  # noqa: PLC0415
        from collector.ingest.tls import Certificates  # noqa: PLC0415
        from collector.schema import load_schema  # noqa: PLC0415
        from collector.server.http_receiver import HttpReceiver  # noqa: PLC0415
        from tests.ingest.serving import Accepting  # noqa: PLC0415
        from tests.support import calling  # noqa: PLC0415

        for name in ("grpc._server", "grpc._utilities"):  # what grpcio loads for its first server
            import_module(name)
        self._zstd, self._metrics = zstd_library(), generate_latest
        accepting = Accepting(Filter(load_schema(self._options["schema"])), "")
        limits = IngestLimits()
        budget = MemoryBudget(limits)
        certificates = Certificates(*map(Path, self._options["tls"]))
        handler = EventsHandler(calling.accepting(accepting), budget=budget)
        self._receivers = [
            HttpReceiver(handler, Address("127.0.0.1", 0), listening, limits, context=context)
            for listening, context in (
                (self._plain, None),
                (self._encrypted, certificates.context()),
            )
        ]
        self._grpc = GrpcServer(
            accepting.now, address="127.0.0.1:0", budget=budget, certificates=certificates
        )

    async def _warm_up(self) -> None:
        """Send one request of each kind over both listeners, and make everything else once."""
        context = ssl.create_default_context(cafile=self._options["authority"])
        for listening, over in ((self._plain, None), (self._encrypted, context)):
            for kind, coding, path, body in requests(self._zstd.compress):
                await _ask(listening.getsockname()[1], over, _head(path, kind, coding, body) + body)
        self._traceback()
        self._metrics()

    async def _answer(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._line, limit=1 << 24)
        while line := await reader.readline():
            what, *arguments = json.loads(line)
            answer = getattr(self, f"_{what}")(*arguments)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()

    # -- what it can be told to do

    def _attempts(self, in_thread: bool) -> list[tuple[str, str, str, int]]:
        def try_all() -> list[tuple[str, str, str, int]]:
            return [(a.family, a.what, a.call, a.error()) for a in ATTEMPTS]

        return _in_thread(try_all) if in_thread else try_all()

    def _calls(self, calls: list[list[int]], in_thread: bool) -> list[int]:
        def make_all() -> list[int]:
            libc = ctypes.CDLL(None, use_errno=True)
            return [_call(libc, *each) for each in calls]

        return _in_thread(make_all) if in_thread else make_all()

    def _imported(self) -> list[str]:
        return sorted(set(sys.modules) - self._modules)

    def _traceback(self) -> str:
        try:
            try:
                raise ConfigError("E203", "one")
            except ConfigError:
                raise RuntimeError("two")  # noqa: B904 - the first is its context
        except RuntimeError:
            return traceback.format_exc()

    def _metrics_text(self) -> int:
        return len(self._metrics())

    def _threads(self, number: int) -> int:
        return sum(_in_thread(lambda: 1) for _ in range(number))


def _in_thread(action: Callable[[], Any]) -> Any:
    results = []
    thread = threading.Thread(target=lambda: results.append(action()))
    thread.start()
    thread.join()
    return results[0]


def _call(libc: ctypes.CDLL, *arguments: int) -> int:
    """Make a system call by its number; return its error number, or 0."""
    ctypes.set_errno(0)
    result = libc.syscall(*(ctypes.c_ulong(each & (1 << 64) - 1) for each in arguments))
    return ctypes.get_errno() if result == -1 else 0


async def _ask(port: int, context: ssl.SSLContext | None, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(request)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 "), answer
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


def requests(
    zstd: Callable[[bytes], bytes],
) -> Iterator[tuple[str, str, str, bytes]]:
    """One request of each kind: content type, encoding, path, body."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415
        ExportLogsServiceRequest,
    )

    lines = EVENT + b"\n" + EVENT
    yield "application/json", "identity", "/v1/events", EVENT
    yield "application/json", "identity", "/v1/events", b"{"
    yield "application/x-ndjson", "gzip", "/v1/events", gzip.compress(lines)
    yield "application/x-ndjson", "zstd", "/v1/events", zstd(lines)
    yield "application/x-ndjson", "gzip", "/v1/events", b"damaged"
    yield "application/json", "identity", "/v1/logs", LOGS
    protobuf = ExportLogsServiceRequest()
    protobuf.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "x"
    yield "application/x-protobuf", "identity", "/v1/logs", protobuf.SerializeToString()
    yield "application/json", "identity", "/nowhere", b"{}"


def _head(path: str, kind: str, coding: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()


# -- the other side -----------------------------------------------------------------------------


class Confined:
    """A running process that is confined."""

    def __init__(
        self, process: subprocess.Popen[str], line: socket.socket, ports: dict[str, int]
    ) -> None:
        self.process = process
        self.ports = ports
        self._line = line.makefile("rwb")
        said = self._line.readline()
        assert said, process.stderr and process.stderr.read()
        ports["grpc"] = json.loads(said)

    def ask(self, what: str, *arguments: Any) -> Any:
        """Have it do something; returns what comes of it."""
        self._line.write(json.dumps([what, *arguments]).encode() + b"\n")
        self._line.flush()
        answer = self._line.readline()
        assert answer, self.process.communicate(timeout=WAIT_SECONDS)
        return json.loads(answer)

    def calls(self, *calls: Sequence[int], in_thread: bool = False) -> list[int]:
        """Have it make system calls (number, arguments); returns their error numbers."""
        found: list[int] = self.ask("calls", calls, in_thread)
        return found


@contextmanager
def confined(tls: tuple[Path, Path], authority: Path, **options: Any) -> Iterator[Confined]:
    """Start a process that serves, confined by what the options say: by default by all."""
    ours, theirs = socket.socketpair()
    with ours, theirs, _listening() as plain, _listening() as encrypted:
        handed = {"line": theirs, "plain": plain, "encrypted": encrypted}
        usual = {"landlock": True, "seccomp": True, "schema": "conferencing"}
        chosen: dict[str, Any] = {
            **{name: each.fileno() for name, each in handed.items()},
            "tls": [*map(str, tls)],
            "authority": str(authority),
            **usual,
            **options,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.confined", json.dumps(chosen)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            pass_fds=[each.fileno() for each in handed.values()],
        )
        theirs.close()
        ours.settimeout(WAIT_SECONDS)
        named = {"plain": plain.getsockname()[1], "encrypted": encrypted.getsockname()[1]}
        with process:
            try:
                yield Confined(process, ours, named)
            finally:
                process.kill()


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=64)


def post(
    port: int, context: ssl.SSLContext | None, kind: str, coding: str, path: str, body: bytes
) -> bytes:
    """Send a request on a connection of its own; returns the whole answer."""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as plain:
        line = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        with line:
            line.sendall(_head(path, kind, coding, body) + body)
            parts = []
            while part := line.recv(1 << 16):
                parts.append(part)
    return b"".join(parts)


script = partial(programs.script, fails=True)


if __name__ == "__main__":
    main()
