"""A receiver in a process of its own, with a real filter behind it, and ways to talk to it.

``python -m tests.ingest.serving`` prints the port on its first line, and then one line for every
request that it observed. All loggers write to stderr at DEBUG, so that a test sees what is logged.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from collector.config import Address
from collector.contracts import Request, Tally
from collector.errors import SpoolFull
from tests.support.deadline import WAIT_SECONDS, wait_until
from tests.support.forkserver import Process, begin
from tests.support.sidecar import Answer

_ROOT = Path(__file__).parents[2]
_MOODS = ("", "full", "failing")
_PATIENCE = {"header_seconds": WAIT_SECONDS, "body_seconds": WAIT_SECONDS}
"""The limits of a receiver for which a test has no others: no sender is late."""


# -- the process --------------------------------------------------------------------------------


def main() -> None:
    """Serve until SIGTERM; the one argument is JSON."""
    from collector.filter import Filter  # noqa: PLC0415 - this half runs in the other process
    from collector.ingest import protocol  # noqa: PLC0415
    from collector.ingest.auth import Tokens, hashed  # noqa: PLC0415
    from collector.ingest.limits import IDLE_SECONDS, IngestLimits  # noqa: PLC0415
    from collector.ingest.memory import MemoryBudget  # noqa: PLC0415
    from collector.ingest.tls import Certificates  # noqa: PLC0415
    from collector.schema import load_schema  # noqa: PLC0415

    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    accepting = Accepting(Filter(load_schema("conferencing")), options["mood"])
    limits = options["limits"]
    vars(protocol)["IDLE_SECONDS"] = limits.pop("idle_seconds", IDLE_SECONDS)
    budget = MemoryBudget(IngestLimits(**limits))
    common: dict[str, Any] = {"budget": budget, "hops": options["hops"]}
    token = options["token"]
    common["tokens"] = Tokens([hashed(token)]) if token else None
    pair = map(Path, options["tls"])
    common["certificates"] = Certificates(*pair) if options["tls"] else None
    (_serve_grpc if options["grpc"] else _serve_http)(accepting, options, common)


def _observe(status: int, seconds: float, code: str | None) -> None:
    print("http", status, seconds >= 0, code, flush=True)


def _serve_grpc(accepting: Accepting, _: Any, common: dict[str, Any]) -> None:
    from collector.ingest.grpc import GrpcServer  # noqa: PLC0415

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server = GrpcServer(accepting.now, address="127.0.0.1:0", observe=_observe, **common)
    print(server.start(), flush=True)
    signal.sigwait([signal.SIGTERM])
    server.stop(5)


def _serve_http(accepting: Accepting, options: Any, common: dict[str, Any]) -> None:
    import uvloop  # noqa: PLC0415

    from collector.ingest.http import EventsHandler  # noqa: PLC0415
    from collector.server.http_receiver import HttpReceiver  # noqa: PLC0415
    from tests.support import calling  # noqa: PLC0415

    certificates = common.pop("certificates")
    more = {name: options[name] for name in ("origins", "hosts")}
    context = certificates.context() if certificates else None
    handler = EventsHandler(calling.accepting(accepting), **common, **more)
    listening = _listening(options["unix"])
    name = listening.getsockname()
    location = Address(*name) if isinstance(name, tuple) else Path(name)
    limits = common["budget"].limits
    receiver = HttpReceiver(handler, location, listening, limits, context=context, observe=_observe)

    async def serve() -> None:
        ending, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, ending.set)
        loop.add_signal_handler(signal.SIGUSR1, accepting.goes_on.set)
        await receiver.start()
        print(location.port if isinstance(location, Address) else 0, flush=True)
        await ending.wait()
        await receiver.stop(5)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


def _listening(path: str) -> socket.socket:
    if not path:
        return socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    return listening


_SECONDS = {"slow": 0.5}
"""How long a pipeline takes for a request, by its mood."""


class Accepting:
    """A pipeline without the disk; it fails as its ``mood`` tells, or in turns."""

    def __init__(self, filter_: Any, mood: str) -> None:
        self._filter = filter_
        self._mood = mood
        self._count = count()
        self.goes_on = asyncio.Event()
        """What requests to a pipeline that is ``held`` wait for."""

    async def __call__(self, request: Request) -> Tally:
        """Filter a request for an event loop."""
        if self._mood == "held":
            print("held", flush=True)
            await self.goes_on.wait()
        await asyncio.sleep(_SECONDS.get(self._mood, 0.0))
        return self.now(request)

    def now(self, request: Request) -> Tally:
        """Filter a request, and print what is known of its sender."""
        mood = _MOODS[next(self._count) % 3] if self._mood == "changing" else self._mood
        if mood == "full":
            full = SpoolFull()
            full.message = str(request.body)
            raise full
        if mood == "failing":
            raise RuntimeError(request.body, request.peer, request.user_agent)
        if mood == "telling":
            print("key", request.key and request.key.hex(), flush=True)
        if request.form == "records":
            return self._records(request)
        around: dict[str, Any] = {"peer": request.peer, "user_agent": request.user_agent}
        (admission,) = self._filter.admit_by_grant(
            request.form, request.body, protobuf=request.protobuf, **around
        )
        tally: Tally = admission.tally
        if mood == "telling":
            print("sender", json.dumps([request.peer, request.user_agent]), flush=True)
            print("counts", tally.received, tally.admitted, flush=True)
            print("first", json.dumps(admission.records[:1]), flush=True)
        return tally

    def _records(self, request: Request) -> Tally:
        total = Tally()
        for batch in self._filter.admit_records(request.body):
            total += batch.tally
        return total


# -- the other side -----------------------------------------------------------------------------


@dataclass
class Server:
    """A running receiver. ``unix`` is its socket file, if it has one."""

    process: Process
    port: int
    unix: str
    stderr: Path
    stdout: Path

    def connect(self) -> socket.socket:
        """A new connection."""
        if self.unix:
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(WAIT_SECONDS)
            line.connect(self.unix)
            return line
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)

    def say(self, *parts: bytes, in_turn: bool = False) -> bytes:
        """Send raw bytes on a new connection, and return all that comes back until it is closed;
        what is sent ``in_turn`` waits for the answer to what was sent before. A receiver that has
        refused them may close the connection while they come."""
        came = b""
        with self.connect() as line:
            with suppress(BrokenPipeError, ConnectionResetError):
                for number, part in enumerate(parts):
                    if number and in_turn:
                        came += line.recv(1 << 16)
                    line.sendall(part)
            return came + heard(line)

    def client(self) -> http.client.HTTPConnection:
        """A client of the standard library."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECONDS)

    def post(
        self, body: bytes, path: str = "/v1/events", method: str = "POST", **headers: str
    ) -> Answer:
        """One request on a connection of its own; header names with ``_`` for ``-``."""
        client = self.client()
        try:
            return exchange(client, body, path, method, **headers)
        finally:
            client.close()

    def memory(self) -> int:
        """The most memory that the process has ever had, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def said(self) -> str:
        """All that the process has written."""
        return self.stderr.read_text("utf-8", "replace") + self.stdout.read_text()

    def held(self) -> int:
        """How many requests a pipeline that is ``held`` has got."""
        return self._lines().count("held")

    def release(self) -> None:
        """Let them, and all later ones, go on."""
        self.process.send_signal(signal.SIGUSR1)

    def observed(self) -> list[int]:
        """The statuses that were observed, in order."""
        lines = (line.split() for line in self._lines())
        return [int(line[1]) for line in lines if line[:1] == ["http"]]

    def _lines(self) -> list[str]:
        """What it has written to the end of a line: the last one may be only half written."""
        return self.stdout.read_text().split("\n")[:-1]


def exchange(
    client: http.client.HTTPConnection,
    body: bytes,
    path: str = "/v1/events",
    method: str = "POST",
    **headers: str,
) -> Answer:
    """One request on a connection that may be used again."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("content-type", "application/json")
    with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        client.request(method, path, body, named)  # it may be refused before all of it is sent
    answer = client.getresponse()
    got = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, got, answer.read())


def heard(line: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := line.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@contextmanager
def serving(tmp_path: Path, **options: Any) -> Iterator[Server]:
    """A receiver in a process of its own.

    Options: ``grpc``, ``limits``, ``mood`` (full, failing, changing, slow, held, telling),
    ``token``, ``origins``, ``hops``, ``hosts``, ``unix``, ``tls`` (certificate, key, authority),
    and ``environment`` for the process.
    """
    environ = {**os.environ, **options.pop("environment", {})}
    environ = {k: v for k, v in environ.items() if v}
    defaults: dict[str, Any] = {"grpc": False, "limits": {}, "mood": "", "token": "", "origins": []}
    defaults |= {"hops": 0, "hosts": [], "unix": "", "tls": []}
    assert set(options) <= set(defaults)
    options["limits"] = _PATIENCE | options.get("limits", {})
    stderr, stdout = tmp_path / "stderr", tmp_path / "stdout"
    said = json.dumps(defaults | options)
    with Path(os.devnull).open("rb") as nothing, stdout.open("wb") as out, stderr.open("wb") as err:
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        process = begin("tests.ingest.serving", [said], streams, _ROOT, environ)
    try:
        port = _port(process, stdout, stderr)
        yield Server(process, port, options.get("unix", ""), stderr, stdout)
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(WAIT_SECONDS)
            raise


def _port(process: Process, stdout: Path, stderr: Path) -> int:
    wait_until(lambda: stdout.read_text().endswith("\n") or process.poll() is not None)
    assert process.poll() is None, stderr.read_text()
    return int(stdout.read_text().split()[0])


if __name__ == "__main__":
    main()
