"""A real sidecar in its own process, on free ports, for tests that send requests to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import IO, Any

from tests.support.deadline import WAIT_SECONDS
from tests.support.forkserver import Process, begin

COMMAND = [sys.executable, "-m", "collector", "serve"]
FREE_PORTS = {
    "COLLECTOR__HTTP__ADDRESS": "127.0.0.1:0",
    "COLLECTOR__GRPC__ADDRESS": "127.0.0.1:0",
    "COLLECTOR__ADMIN__ADDRESS": "127.0.0.1:0",
}
_PATIENT = {"COLLECTOR__LIMITS__HEADER_TIME": "60s"}
"""Tests may be slow to finish a request."""
NEW_INTERPRETERS = {"PYTEST_NEW_INTERPRETERS": "1"}
"""An environment in which the sidecar starts its workers as in production, instead of forking them
(``tests.sidecar.forked_workers``)."""
_START_SECONDS = WAIT_SECONDS


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["error"]["code"])


@dataclass
class Sidecar:
    """A running process; ``log`` collects the lines that it writes."""

    process: Process
    directory: Path
    ports: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        to: str = "http",
    ) -> Answer:
        """Send a request to one of its ports."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[to], timeout=WAIT_SECONDS)
        try:
            connection.connect()
            with suppress(ConnectionError):  # the answer may come before all is sent
                connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())
        finally:
            connection.close()

    def send(self, body: bytes, kind: str = "application/x-ndjson") -> Answer:
        """Send events."""
        return self.request("POST", "/v1/events", body, {"Content-Type": kind})

    def admin(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Request health or metrics."""
        return self.request("GET", path, None, headers, to="admin")

    def stop(
        self, number: int = signal.SIGTERM, seconds: float = WAIT_SECONDS
    ) -> tuple[int, float]:
        """Send a signal and wait; returns the exit code and how long it took. Its log is whole."""
        began = monotonic()
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        took = monotonic() - began
        if self.reader is not None:
            self.reader.join(WAIT_SECONDS)
        return code, took

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events in its log."""
        return [json.loads(line) for line in self.log]


@contextmanager
def started(
    directory: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
    stdout: IO[bytes] | None = None,
    words: Sequence[str] = ("serve",),
) -> Iterator[Sidecar]:
    """Run a sidecar that listens, or the command ``words``; kill the process at the end if it still
    runs. Without a ``command``, fork it with the modules loaded."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as log:
        try:
            whole = [*(command or words), *arguments]
            files = (stdout, writing)
            is_new = command is not None
            process = _begin(directory, whole, environ or {}, files, is_new=is_new)
        finally:
            os.close(writing)
        sidecar = Sidecar(process, directory)
        ready = threading.Event()
        reader = threading.Thread(target=_read, args=(log, sidecar, ready), daemon=True)
        sidecar.reader = reader
        reader.start()
        try:
            assert ready.wait(_START_SECONDS), "it does not start"
            assert sidecar.ports, (process.poll(), sidecar.log)
            yield sidecar
        finally:
            process.kill()
            process.wait(WAIT_SECONDS)
            reader.join(WAIT_SECONDS)


def _begin(
    directory: Path,
    words: Sequence[str],
    environ: Mapping[str, str],
    files: tuple[IO[bytes] | None, int],
    *,
    is_new: bool,
) -> Process:
    whole = {**os.environ, **FREE_PORTS, **_PATIENT, **environ}
    with Path(os.devnull).open("r+b") as nothing:
        stdin, out, stderr = nothing.fileno(), (files[0] or nothing).fileno(), files[1]
        if is_new:
            return subprocess.Popen([*words], 0, None, stdin, out, stderr, cwd=directory, env=whole)
        return begin("collector", [*words], (stdin, out, stderr), directory, whole)


def _read(stream: IO[bytes], sidecar: Sidecar, ready: threading.Event) -> None:
    for raw in stream:
        line = raw.decode("utf-8", "replace").rstrip("\n")
        sidecar.log.append(line)
        if not sidecar.ports and '"started"' in line:
            said = json.loads(line)
            names = ("http", "grpc", "admin", "unix", "recorder")
            sidecar.ports = {name: said[name] for name in names if name in said}
            ready.set()
    ready.set()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=WAIT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(WAIT_SECONDS)
        self.sock.connect(str(self._path))
