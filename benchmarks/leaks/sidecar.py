"""A real sidecar with store, files and a debug log, and everything that it writes and answers. It
can also deliver to a lake, an OTLP receiver and PostgreSQL, each on this machine.
"""

from __future__ import annotations

import gzip
import http.client
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

from benchmarks.figures import BenchmarkError
from benchmarks.sidecar.server import Server, collector
from benchmarks.sinks import postgres_programs, postgres_server

_WAIT_SECONDS = 120
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

LAKE, BACKEND, WAREHOUSE = "lake", "backend", "warehouse"
"""The names of the sinks for Parquet files, OTLP and PostgreSQL."""


@dataclass
class Locations:
    """The opened locations: ``environ`` has their settings, ``requests`` the headers and bodies
    that the OTLP receiver got."""

    environ: dict[str, str] = field(default_factory=dict)
    lake: Path | None = None
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    database: str | None = None

    def files(self) -> list[Path]:
        """Return the files of the lake, waiting for the first."""
        if self.lake is None:
            return []
        until = monotonic() + _WAIT_SECONDS
        while not (found := sorted(self.lake.rglob("*.parquet"))):
            if monotonic() > until:
                raise BenchmarkError("the lake gets no file")
            sleep(0.1)
        return found

    def exported(self) -> Iterator[Any]:
        """Yield the OTLP requests as messages."""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415
            ExportLogsServiceRequest,
        )

        for _, body in self.requests:
            yield ExportLogsServiceRequest.FromString(body)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a PostgreSQL query; none if it is not open."""
        if self.database is None:
            return []
        import psycopg  # noqa: PLC0415 - an extra

        with closing(psycopg.connect(self.database)) as db:
            return db.execute(query.encode()).fetchall()


@contextmanager
def opened(names: tuple[str, ...], directory: Path) -> Iterator[Locations]:
    """Open some locations by name. A location whose server is not installed is left out."""
    found = Locations()
    with ExitStack() as stack:
        if LAKE in names:
            found.lake = directory / "lake"
            found.environ |= _settings(LAKE, type="parquet", path=str(found.lake), every="1s")
        if BACKEND in names:
            port = stack.enter_context(_receiver(found))
            endpoint = f"http://127.0.0.1:{port}"
            found.environ |= _settings(BACKEND, type="otlp", endpoint=endpoint, party="first")
        if WAREHOUSE in names and postgres_programs():
            place = stack.enter_context(postgres_server())
            url = f"postgres://collector@/telemetry?host={place}"
            found.database = url.replace("postgres:", "postgresql:")
            found.environ |= _settings(WAREHOUSE, type="postgres", url=url, party="first")
        yield found


def _settings(name: str, **settings: str) -> dict[str, str]:
    prefix = f"COLLECTOR__SINKS__{name.upper()}__"
    return {f"{prefix}{setting.upper()}": text for setting, text in settings.items()}


@contextmanager
def _receiver(found: Locations) -> Iterator[int]:
    """Take everything; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            found.requests.append((headers, body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@dataclass
class Sidecar:
    """A running sidecar: its directory, its locations, and its answers."""

    directory: Path
    server: Server
    locations: Locations
    answers: set[Answer] = field(default_factory=set)

    @property
    def log(self) -> list[str]:
        """The lines of its log so far."""
        return self.server.log

    def post(
        self, path: str, kind: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send a body; return the JSON of the answer, or its bytes. The answer is kept.

        Raises ``BenchmarkError`` unless the body was accepted.
        """
        status, told = self._send(path, {"Content-Type": kind, **(headers or {})}, body)
        if status != 200:
            raise BenchmarkError(f"the sidecar answers {status} to {path}")
        return json.loads(told) if told.startswith(b"{") else told

    def post_slowly(self, path: str, kind: str, body: bytes, seconds: float) -> float:
        """Send a body whose last byte comes ``seconds`` after the sidecar asks for it; return how
        long the request took. The answer is kept, even a refusal."""
        began = monotonic()
        self._send(path, {"Content-Type": kind}, body, seconds)
        return monotonic() - began

    def _send(
        self, path: str, headers: Mapping[str, str], body: bytes, seconds: float = 0.0
    ) -> tuple[int, bytes]:
        place = "127.0.0.1", self.server.ports["http"]
        with closing(http.client.HTTPConnection(*place, timeout=_WAIT_SECONDS)) as connection:
            connection.putrequest("POST", path)
            for name, text in {**headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, text)
            if seconds:
                connection.putheader("Expect", "100-continue")
                connection.endheaders()
                connection.sock.recv(1 << 10)
            else:
                connection.endheaders()
            connection.send(body[:-1])
            sleep(seconds)
            connection.send(body[-1:])
            answer = connection.getresponse()
            told = answer.read()
            shown = sorted((name.lower(), value) for name, value in answer.getheaders())
            self.answers.add((tuple(shown), told))
            return answer.status, told

    def call(self, signal: str, body: bytes) -> None:
        """Send an OTLP request over gRPC. The answer is kept.

        Raises ``BenchmarkError`` unless the request was accepted.
        """
        import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra

        with grpc.insecure_channel(f"127.0.0.1:{self.server.ports['grpc']}") as channel:
            try:
                told = channel.unary_unary(_METHODS[signal])(body, timeout=_WAIT_SECONDS)
            except grpc.RpcError as error:
                raise BenchmarkError(f"the sidecar answers {error.code()} over gRPC") from None
        self.answers.add(((), told))

    def counters(self, name: str) -> Iterator[tuple[dict[str, str], int]]:
        """Yield the labels and the value of each counter with a name."""
        for line in self.server.page("/metrics").splitlines():
            if line.startswith(f"{name}{{"):
                labels, _, value = line[len(name) + 1 :].partition("} ")
                pairs = (pair.split("=", 1) for pair in labels.split(",") if pair)
                yield {key: text.strip('"') for key, text in pairs}, int(float(value))

    def status(self) -> dict[str, Any]:
        """Return its answer over the control socket."""
        from collector.server.control_client import Status, ask  # noqa: PLC0415

        return ask(self.directory / "data", Status()) or {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the store from taking batches in the block, so that they wait in the spool."""
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
        """Return the records that wait in the spool, by batch.

        Raises ``BenchmarkError`` if a batch is damaged.
        """
        from collector.spool.tables import pending_batches  # noqa: PLC0415

        batches = [*pending_batches(self.spool)]
        if None in batches:
            raise BenchmarkError("the spool has a damaged batch")
        return [batch.payload for batch in batches if batch is not None]

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the NDJSON files."""
        for path in sorted((self.directory / "records").iterdir()):
            if path.suffix != ".state":
                yield from path.read_bytes().splitlines()

    def files(self) -> list[Path]:
        """Return every file in the sidecar's directory, where it may also put temporary files."""
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def write_down(self) -> None:
        """Write log, answers and metrics into the directory."""
        (self.directory / "log").write_text("\n".join(self.log))
        (self.directory / "answers").write_text("\n".join(map(repr, self.answers)))
        (self.directory / "metrics").write_text(self.server.page("/metrics"))


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=60)) as db:
        return db.execute(query).fetchall()


@contextmanager
def running(
    directory: Path,
    schema: str,
    command: Sequence[str] = (),
    *,
    more: Mapping[str, str] | None = None,
    locations: Locations | None = None,
) -> Iterator[Sidecar]:
    """Run a sidecar for a schema, by name or path, in its own directory. ``more`` are additional
    settings, and ``locations`` additional sinks.

    Raises ``BenchmarkError`` if it does not start, or ends badly.
    """
    locations = locations or Locations()
    (directory / "temporary").mkdir(parents=True, exist_ok=True)
    environ = {
        **(more or {"COLLECTOR__SCHEMA": schema}),
        "COLLECTOR__DATA": str(directory / "data"),
        "COLLECTOR__SINKS__NDJSON__PATH": str(directory / "records" / "records.ndjson"),
        "TMPDIR": str(directory / "temporary"),
        "COLLECTOR__LOG__LEVEL": "debug",
    }
    environ |= locations.environ
    with collector(directory, command=command, environ=environ) as server:
        yield Sidecar(directory, server, locations)
        server.stop()
