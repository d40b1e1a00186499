"""Where else a sidecar can deliver to, for a measurement: a lake, a receiver of OTLP, PostgreSQL.

Each is on this machine and empties itself at the end. ``places`` looks at everything that lies
there, ``channels`` at the order of records.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

from benchmarks.figures import BenchmarkError
from benchmarks.sinks import postgres

LAKE, BACKEND, WAREHOUSE = "lake", "backend", "warehouse"
"""The names of the sinks: of Parquet files, of OTLP, of PostgreSQL."""
_WAIT_SECONDS = 120


@dataclass
class Locations:
    """What was opened: ``environ`` are the settings for it, ``requests`` what the receiver of OTLP
    got, headers and body."""

    environ: dict[str, str] = field(default_factory=dict)
    lake: Path | None = None
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    database: str | None = None

    def files(self) -> list[Path]:
        """Return the files of the lake, once there is one."""
        if self.lake is None:
            return []
        until = monotonic() + _WAIT_SECONDS
        while not (found := sorted(self.lake.rglob("*.parquet"))):
            if monotonic() > until:
                raise BenchmarkError("the lake gets no file")
            sleep(0.1)
        return found

    def exported(self) -> Iterator[Any]:
        """Yield the requests of OTLP as messages."""
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415
            ExportLogsServiceRequest,
        )

        for _, body in self.requests:
            yield ExportLogsServiceRequest.FromString(body)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query to PostgreSQL; none if it is not open."""
        if self.database is None:
            return []
        import psycopg  # noqa: PLC0415 - an extra

        with closing(psycopg.connect(self.database)) as db:
            return db.execute(query.encode()).fetchall()


@contextmanager
def opened(names: tuple[str, ...], directory: Path) -> Iterator[Locations]:
    """Open some locations, by name. One of a server that is not installed is left out."""
    found = Locations()
    with ExitStack() as stack:
        if LAKE in names:
            found.lake = directory / "lake"
            found.environ |= _settings(LAKE, type="parquet", path=str(found.lake), every="1s")
        if BACKEND in names:
            port = stack.enter_context(_receiver(found))
            endpoint = f"http://127.0.0.1:{port}"
            found.environ |= _settings(BACKEND, type="otlp", endpoint=endpoint, party="first")
        if WAREHOUSE in names and postgres.obstacle() is None:
            place = stack.enter_context(postgres.server())
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
