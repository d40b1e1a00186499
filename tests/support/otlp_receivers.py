"""OTLP receivers for tests. They decode requests with OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import ssl
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from collector.contracts import Batch
from collector.errors import CollectorError
from collector.sinks.otlp import OtlpSink
from tests.support.certificates import Pair

ECHO = "canary-of-an-answer"
"""A text in receivers' answers that must appear nowhere else."""
SECRET = "5cd51f4e-of-the-test"
"""A secret in a sender's header that must appear nowhere else."""
_PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class Answer:
    """A receiver's answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": _PROTOBUF})
    """For gRPC, trailing metadata. gRPC statuses are below 20."""
    details: bytes = b""


@dataclass
class Received:
    """What a receiver was sent. ``answer`` decides how to answer a request and its headers. The
    receiver keeps the records of requests that it answers with success."""

    answer: Callable[[ExportLogsServiceRequest, Mapping[str, str]], Answer]
    port: int = 0
    requests: list[ExportLogsServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Decode a request, and answer it."""
        lower = {name.lower(): text for name, text in headers.items()}
        plain = gzip.decompress(body) if lower.get("content-encoding") == "gzip" else body
        request = ExportLogsServiceRequest.FromString(plain)
        self.requests.append(request)
        self.headers.append(lower)
        self.paths.append(path)
        self.sizes.append(len(plain))
        answer = self.answer(request, lower)
        if 200 <= answer.status < 300:
            self.records += records(request)
        return answer

    def people(self) -> Counter[str]:
        """Count the records of each person."""
        return Counter(str(attributes(each)["client.address"]) for each in self.records)


def records(request: ExportLogsServiceRequest) -> list[Any]:
    """Return all log records of a request."""
    return [
        record
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def attributes(record: Any) -> dict[str, Any]:
    """Return the attributes of a log record. Each key must occur once."""
    found = {}
    for each in record.attributes:
        assert each.key not in found
        found[each.key] = getattr(each.value, each.value.WhichOneof("value"))
    return found


def taken(_request: object = None, _headers: object = None) -> Answer:
    """Take a request."""
    return Answer()


def partial(rejected: int) -> Answer:
    """Take a request, but reject some records and quote one of them."""
    message = ExportLogsServiceResponse()
    message.partial_success.rejected_log_records = rejected
    message.partial_success.error_message = ECHO
    return Answer(body=message.SerializeToString())


@contextmanager
def http_receiver(
    answer: Callable[[ExportLogsServiceRequest, Mapping[str, str]], Answer] = taken,
    *,
    pair: Pair | None = None,
    authority: Path | None = None,
) -> Iterator[Received]:
    """Receive OTLP over HTTP on this machine. With a ``pair``, use TLS and require a client
    certificate of the ``authority``."""
    received = Received(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = received.take(self.path, dict(self.headers), body)
            self.send_response(found.status)
            for name, text in found.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignore senders that close a connection."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        received.port = server.server_address[1]
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_receiver(
    answer: Callable[[ExportLogsServiceRequest, Mapping[str, str]], Answer] = taken,
    *,
    pair: Pair | None = None,
    authority: Path | None = None,
) -> Iterator[Received]:
    """Receive OTLP over gRPC, otherwise like ``http_receiver``. An answer's status is a gRPC
    status, or 200."""
    received = Received(answer)
    codes = {code.value[0]: code for code in grpc.StatusCode}

    def export(body: bytes, context: Any) -> bytes:
        metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        found = received.take("", metadata, body)
        if found.status in codes:
            if found.details:
                context.set_trailing_metadata([("grpc-status-details-bin", found.details)])
            context.abort(codes[found.status], ECHO)
        return found.body

    handler = grpc.unary_unary_rpc_method_handler(export)
    service = "opentelemetry.proto.collector.logs.v1.LogsService"
    pool = ThreadPoolExecutor(4)
    server = grpc.server(
        pool, options=[("grpc.so_reuseport", 0)], compression=grpc.Compression.Gzip
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Export": handler})]
    )
    if pair is None or authority is None:
        received.port = server.add_insecure_port("127.0.0.1:0")
    else:
        chain = [(pair.key.read_bytes(), pair.certificate.read_bytes())]
        secured = grpc.ssl_server_credentials(
            chain, authority.read_bytes(), require_client_auth=True
        )
        received.port = server.add_secure_port("127.0.0.1:0", secured)
    server.start()
    try:
        yield received
    finally:
        server.stop(0).wait()
        pool.shutdown()


def answering(*answers: Answer) -> Callable[[object, object], Answer]:
    """Give these answers in order, then take everything."""
    left = list(answers)
    return lambda _request, _headers: left.pop(0) if left else taken()


def failure(sink: OtlpSink, *batches: Batch) -> CollectorError:
    """Deliver, expect a failure, and check that it quotes neither records nor answers."""
    with pytest.raises(CollectorError) as caught:
        sink.deliver(*batches)
    text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert caught.value.__context__ is None
    for canary in (ECHO, "203.0.113", SECRET, "linux"):
        assert canary not in text
    return caught.value
