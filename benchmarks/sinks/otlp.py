"""The sink of OTLP, beside OpenTelemetry's messages with the standard library's HTTP client, or
with a stub of grpcio."""

from __future__ import annotations

import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread

from benchmarks.figures import BenchmarkError
from benchmarks.sinks import Writers
from collector.contracts import Record
from collector.schema import Schema

_METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_NANOSECONDS = 1_795_773_900 * 10**9
_REQUEST = 4_000
"""Records of a request of the bare writer: about as many as the sink puts into one."""
_GZIP = 31
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


def _writers(deliver: Callable[..., None], send: Callable[[bytes], object]) -> Writers:
    def bare(records: Sequence[Record]) -> None:
        for at in range(0, len(records), _REQUEST):
            send(_body(records[at : at + _REQUEST]))

    return Writers(lambda batches: deliver(*batches), bare)


def _body(records: Sequence[Record]) -> bytes:
    """Build a request as a program would that has nothing but the messages."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: PLC0415 - an extra
        ExportLogsServiceRequest,
    )

    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add().scope_logs.add().log_records
    for record in records:
        log = logs.add(time_unix_nano=_NANOSECONDS, observed_time_unix_nano=_NANOSECONDS)
        for name, value in record.items():
            into = log.attributes.add(key=name).value
            if isinstance(value, str):
                into.string_value = value
            elif isinstance(value, bool):
                into.bool_value = value
            elif isinstance(value, int):
                into.int_value = value
            else:
                into.double_value = value
    return bytes(request.SerializeToString())


@contextmanager
def over_http(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Send to a receiver over HTTP."""
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    with _receiver("http") as port, _delivery(port, "http", directory, schema) as deliver:
        connection = HTTPConnection("127.0.0.1", port)

        def send(body: bytes) -> None:
            packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
            connection.request("POST", "/v1/logs", packer.compress(body) + packer.flush(), headers)
            connection.getresponse().read()

        try:
            yield _writers(deliver, send)
        finally:
            connection.close()


@contextmanager
def over_grpc(directory: Path, schema: Schema) -> Iterator[Writers]:
    """Send to a receiver over gRPC."""
    import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra

    with (
        _receiver("grpc") as port,
        _delivery(port, "grpc", directory, schema) as deliver,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.unary_unary(_METHOD)
        yield _writers(deliver, lambda body: call(body, compression=grpc.Compression.Gzip))


@contextmanager
def _delivery(
    port: int, protocol: str, directory: Path, schema: Schema
) -> Iterator[Callable[..., None]]:
    """Open the sink, and yield what delivers to it."""
    from collector.sinks.otlp import OtlpSettings, OtlpSink  # noqa: PLC0415 - an extra
    from collector.sinks.sink import Opening  # noqa: PLC0415

    values = {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "protocol": protocol}
    with OtlpSink(OtlpSettings(**values), Opening("backend", (schema,), directory)) as sink:
        yield sink.deliver


@contextmanager
def _receiver(protocol: str) -> Iterator[int]:
    """Start a process that takes everything; yield its port."""
    command = [sys.executable, "-m", __name__, protocol]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.strip().isdigit():
                raise BenchmarkError("the receiver does not start")
            yield int(line)
        finally:
            process.kill()


def _serve_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            Thread(target=_answer_all, args=(connection,), daemon=True).start()


def _answer_all(connection: socket.socket) -> None:
    """Read requests and take them, unread."""
    with suppress(OSError), connection, connection.makefile("rb") as stream:
        while True:
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                name, _, text = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(text)
            if not line:
                return
            stream.read(length)
            connection.sendall(_ANSWER)


def _serve_grpc() -> None:
    import grpc  # noqa: PLC0415 - an extra

    service, _, method = _METHOD[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(lambda _body, _context: b"")
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    Event().wait()


if __name__ == "__main__":
    {"http": _serve_http, "grpc": _serve_grpc}[sys.argv[1]]()
