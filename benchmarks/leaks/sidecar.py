"""A real sidecar with store, files and a debug log, and everything that it writes and says."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

from benchmarks.figures import BenchmarkError
from benchmarks.leaks.locations import Locations

_ROOT = Path(__file__).resolve().parents[2]
_WAIT_SECONDS = 120
_DELIVERY_SECONDS = 1_800
_FREE = "127.0.0.1:0"
_NONE: Mapping[str, str] = {}
_METHODS = {
    signal: f"/opentelemetry.proto.collector.{name}.v1.{service}/Export"
    for signal, name, service in (
        ("logs", "logs", "LogsService"),
        ("traces", "trace", "TraceService"),
        ("metrics", "metrics", "MetricsService"),
    )
}

Answer = tuple[tuple[tuple[str, str], ...], bytes]
"""Headers and body."""


@dataclass
class Sidecar:
    """A running sidecar: its directory, its ports, its log so far, and a connection to it."""

    directory: Path
    process: subprocess.Popen[str]
    schema: str
    ports: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    answers: set[Answer] = field(default_factory=set)
    locations: Locations = field(default_factory=Locations)
    _connection: http.client.HTTPConnection | None = None
    _channel: Any = None

    def post(
        self, path: str, kind: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send a body; return the JSON of the answer, or its bytes. The answer is kept.

        Raises ``BenchmarkError`` unless it was taken.
        """
        sent = {"Content-Type": kind, **(headers or {})}
        try:
            answer = self._request(path, body, sent)
        except ConnectionError:  # it was idle, and so the sidecar has closed it
            self.hang_up()
            answer = self._request(path, body, sent)
        told = self._keep(answer)
        if answer.status != 200:
            raise BenchmarkError(f"the sidecar answers {answer.status} to {path}")
        return json.loads(told) if told.startswith(b"{") else told

    def post_slowly(self, path: str, kind: str, body: bytes, seconds: float) -> float:
        """Send a body whose last byte comes that much later, on a connection of its own; return how
        long it took. The answer is kept, also if it is a refusal."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.ports["http"], timeout=_WAIT_SECONDS
        )
        with closing(connection):
            began = monotonic()
            connection.putrequest("POST", path)
            connection.putheader("Content-Type", kind)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:-1])
            sleep(seconds)
            connection.send(body[-1:])
            answer = connection.getresponse()
            self._keep(answer)
            return monotonic() - began

    def call(self, signal: str, body: bytes) -> None:
        """Send a request of OTLP over gRPC. The answer is kept.

        Raises ``BenchmarkError`` unless it was taken.
        """
        import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra

        if self._channel is None:
            self._channel = grpc.insecure_channel(f"127.0.0.1:{self.ports['grpc']}")
        call = self._channel.unary_unary(_METHODS[signal])
        for is_last in (False, True):
            try:
                self.answers.add(((), call(body, timeout=_WAIT_SECONDS)))
                return
            except grpc.RpcError as error:
                was_idle = error.code() is grpc.StatusCode.UNAVAILABLE  # the sidecar has closed it
                if is_last or not was_idle:
                    raise BenchmarkError(f"the sidecar answers {error.code()} over gRPC") from None

    def _keep(self, answer: http.client.HTTPResponse) -> bytes:
        """Keep an answer; return its body."""
        told = answer.read()
        headers = sorted((name.lower(), value) for name, value in answer.getheaders())
        self.answers.add((tuple(headers), told))
        return told

    def _request(self, path: str, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._connection is None:
            place = "127.0.0.1", self.ports["http"]
            self._connection = http.client.HTTPConnection(*place, timeout=_WAIT_SECONDS)
        self._connection.request("POST", path, body, headers)
        return self._connection.getresponse()

    def hang_up(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def metrics(self) -> str:
        """Return the page of metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/metrics") as page:
            return str(page.read().decode())

    def counters(self, name: str) -> Iterator[tuple[dict[str, str], int]]:
        """Yield the labels and the value of each counter of a name."""
        for line in self.metrics().splitlines():
            if line.startswith(f"{name}{{"):
                labels, _, value = line[len(name) + 1 :].partition("} ")
                pairs = (pair.split("=", 1) for pair in labels.split(",") if pair)
                yield {key: text.strip('"') for key, text in pairs}, int(float(value))

    def status(self) -> dict[str, Any]:
        """Return what it answers over its control socket."""
        from collector.server.control_client import Status, ask  # noqa: PLC0415

        return ask(self.directory / "data", Status()) or {}

    def readiness(self) -> str:
        """Return the page of its readiness."""
        place = f"http://127.0.0.1:{self.ports['admin']}/readyz?verbose"
        with urllib.request.urlopen(place) as page:
            return str(page.read().decode())

    def delivered(self) -> None:
        """Wait until no batch waits."""
        until = monotonic() + _DELIVERY_SECONDS
        while "\ncollector_spool_used_bytes 0.0\n" not in self.metrics():
            if monotonic() > until:
                raise BenchmarkError("the sidecar does not deliver")
            sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, and wait. Raises ``BenchmarkError`` if it does not, or ended badly."""
        self.hang_up()
        if self.process.poll() is None:
            self.process.terminate()
        if self.process.wait(_WAIT_SECONDS) != 0:
            raise BenchmarkError(f"collector serve ended badly: {' '.join(self.log[-3:])}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the store from taking anything meanwhile, so that batches wait in the spool."""
        with closing(sqlite3.connect(self.store, isolation_level=None, timeout=60)) as db:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.directory / "data" / "store.db"

    @property
    def spool(self) -> Path:
        """The spool's file."""
        return self.directory / "data" / "spool.db"

    def waiting(self) -> list[bytes]:
        """Return the records that wait in the spool, by batch, as they lie there."""
        return [row[0] for row in rows(self.spool, "SELECT payload FROM batches")]

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the files of records."""
        for path in sorted((self.directory / "records").iterdir()):
            if path.suffix != ".state":
                yield from path.read_bytes().splitlines()

    def files(self) -> list[Path]:
        """Return every file in the directory of the sidecar, which is also where it may put
        temporary ones."""
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def write_down(self) -> None:
        """Write into the directory what was said: log, answers, metrics."""
        (self.directory / "log").write_text("\n".join(self.log))
        (self.directory / "answers").write_text("\n".join(map(repr, self.answers)))
        (self.directory / "metrics").write_text(self.metrics())


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=60)) as db:
        return db.execute(query).fetchall()


@contextmanager
def running(
    directory: Path,
    schema: str,
    command: Sequence[str] | None = None,
    *,
    more: Mapping[str, str] = _NONE,
    locations: Locations | None = None,
) -> Iterator[Sidecar]:
    """Run a sidecar for a schema, by name or path, in a directory of its own. ``more`` are settings
    besides, and ``locations`` other sinks.

    Raises ``BenchmarkError`` if it does not start, or does not end well.
    """
    environ = {
        **(more or {"COLLECTOR__SCHEMA": schema}),
        "COLLECTOR__DATA": str(directory / "data"),
        "COLLECTOR__SINKS__NDJSON__PATH": str(directory / "records" / "records.ndjson"),
        "TMPDIR": str(directory / "temporary"),
        "COLLECTOR__LOG__LEVEL": "debug",
        "COLLECTOR__HTTP__ADDRESS": _FREE,
        "COLLECTOR__GRPC__ADDRESS": _FREE,
        "COLLECTOR__ADMIN__ADDRESS": _FREE,
        "PYTHONPATH": f"{_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    locations = locations or Locations()
    environ |= locations.environ
    (directory / "temporary").mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command or [sys.executable, "-m", "collector", "serve"],
        cwd=directory,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    sidecar = Sidecar(directory, process, Path(schema).stem, locations=locations)
    reader = Thread(target=_read, args=(sidecar,), daemon=True)
    reader.start()
    try:
        until = monotonic() + _WAIT_SECONDS
        while not sidecar.ports:
            if process.poll() is not None or monotonic() > until:
                raise BenchmarkError(
                    f"collector serve does not start: {' '.join(sidecar.log[-3:])}"
                )
            sleep(0.05)
        yield sidecar
        sidecar.stop()
    finally:
        sidecar.hang_up()
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(_WAIT_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def _read(sidecar: Sidecar) -> None:
    for line in sidecar.process.stdout or ():
        sidecar.log.append(line.rstrip())
        if not sidecar.ports and '"started"' in line:
            told = json.loads(line)
            sidecar.ports = {name: told[name] for name in ("http", "grpc", "admin")}
