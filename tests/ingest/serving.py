"""The HTTP receiver in a process of its own, with a real filter behind it, and ways to talk to it.

``python -m tests.ingest.serving`` prints the port on its first line, and then one line for every
request that it observed. All loggers write to stderr at DEBUG, so that a test sees what is said.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.contracts import Request, Tally
from collector.errors import DeliveryError
from tests.nursery import Process, begin

_ROOT = Path(__file__).parents[2]
_LOADED = (
    *("collector.filter", "collector.ingest.http", "collector.ingest.protocol", "collector.schema"),
    *("uvicorn.lifespan.off", "uvloop"),
)


# -- the process --------------------------------------------------------------------------------


def main() -> None:
    """Serve until killed; the one argument is JSON."""
    import uvicorn  # noqa: PLC0415 - this half runs in the other process only

    from collector.filter import Filter  # noqa: PLC0415
    from collector.ingest.auth import Tokens, hashed  # noqa: PLC0415
    from collector.ingest.http import app  # noqa: PLC0415
    from collector.ingest.limits import Limits  # noqa: PLC0415
    from collector.ingest.protocol import protocol  # noqa: PLC0415
    from collector.schema import load_schema  # noqa: PLC0415

    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    limits = Limits(**options["limits"])
    accept = Accepting(Filter(load_schema("conferencing")), options["mood"])
    token = options["token"]

    def observe(receiver: str, status: int, seconds: float) -> None:
        print(receiver, status, seconds >= 0, flush=True)

    application = app(
        accept,
        limits=limits,
        tokens=Tokens([hashed(token)]) if token else None,
        origins=options["origins"],
        hops=options["hops"],
        hosts=options["hosts"],
        observe=observe,
    )
    listening = _listening(options["unix"])
    config = uvicorn.Config(
        application,
        http=protocol(limits, observe),
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        loop=options["loop"],
        timeout_graceful_shutdown=5,
        ssl_context_factory=_context(options["tls"]),
    )
    name = listening.getsockname()
    print(name[1] if isinstance(name, tuple) else 0, flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def _context(pair: list[str]) -> Any:
    """What makes TLS of a certificate and a key, if there are any."""
    if not pair:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    return lambda _config, _default: context


def _listening(path: str) -> socket.socket:
    if not path:
        return socket.create_server(("127.0.0.1", 0), backlog=2048)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    return listening


class Accepting:
    """What a pipeline does, without the disk; or one that fails, as its ``mood`` is."""

    def __init__(self, filter_: Any, mood: str) -> None:
        self._filter = filter_
        self._mood = mood

    async def __call__(self, request: Request) -> Tally:
        """Filter a request, and say on stdout what was kept."""
        if self._mood == "full":
            raise DeliveryError("E505", "the spool is full")
        if self._mood == "failing":
            raise RuntimeError(request.body, request.peer, request.user_agent)
        if self._mood == "slow":
            await asyncio.sleep(0.5)
        if request.form == "records":
            return self._records(request)
        around: dict[str, Any] = {"peer": request.peer, "user_agent": request.user_agent}
        if request.form == "json":
            admission = self._filter.admit(request.body, **around)
        elif request.form == "ndjson":
            admission = self._filter.admit_lines(request.body, **around)
        else:
            form, protobuf = request.form, request.protobuf
            admission = self._filter.admit_otlp(form, request.body, protobuf=protobuf, **around)
        tally: Tally = admission.tally
        if self._mood == "telling":
            print("kept", json.dumps([request.peer, request.user_agent]), flush=True)
            print("counts", tally.received, tally.admitted, flush=True)
        return tally

    def _records(self, request: Request) -> Tally:
        total = Tally()
        for share in self._filter.admit_records(request.body):
            total += share.tally
        if self._mood == "telling":
            print("key", request.key and request.key.hex(), flush=True)
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
            line.settimeout(20)
            line.connect(self.unix)
            return line
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def say(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send raw bytes on a new connection, and return all that comes back until it is closed."""
        with self.connect() as line:
            for part in parts:
                line.sendall(part)
                time.sleep(pause)
            return heard(line)

    def client(self) -> http.client.HTTPConnection:
        """A client of the standard library."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def post(
        self, body: bytes, path: str = "/v1/events", method: str = "POST", **headers: str
    ) -> Reply:
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

    def observed(self) -> list[int]:
        """The statuses that were observed, in order."""
        lines = (line.split() for line in self.stdout.read_text().splitlines())
        return [int(line[1]) for line in lines if line[:1] == ["http"]]


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["error"]["code"])


def exchange(
    client: http.client.HTTPConnection,
    body: bytes,
    path: str = "/v1/events",
    method: str = "POST",
    **headers: str,
) -> Reply:
    """One request on a connection that may be used again."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("content-type", "application/json")
    client.request(method, path, body, named)
    answer = client.getresponse()
    got = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, got, answer.read())


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

    Options: ``limits``, ``mood`` (full, failing, slow, telling), ``token``, ``origins``, ``hops``,
    ``hosts``, ``unix``, ``loop``, ``tls`` (certificate, key), and ``environment`` for the process.
    """
    environ = {**os.environ, **options.pop("environment", {})}
    defaults: dict[str, Any] = {"limits": {}, "mood": "", "token": "", "origins": []}
    defaults |= {"hops": 0, "hosts": [], "unix": "", "loop": "uvloop", "tls": []}
    assert set(options) <= set(defaults)
    stderr, stdout = tmp_path / "stderr", tmp_path / "stdout"
    said = json.dumps(defaults | options)
    with Path(os.devnull).open("rb") as nothing, stdout.open("wb") as out, stderr.open("wb") as err:
        streams = (nothing.fileno(), out.fileno(), err.fileno())
        process = begin("tests.ingest.serving", [said], streams, _ROOT, environ, _LOADED)
    try:
        port = _port(process, stdout, stderr)
        yield Server(process, port, options.get("unix", ""), stderr, stdout)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _port(process: Process, stdout: Path, stderr: Path) -> int:
    deadline = time.monotonic() + 20
    while not stdout.read_text().endswith("\n"):
        assert process.poll() is None, stderr.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(stdout.read_text().split()[0])


if __name__ == "__main__":
    main()
