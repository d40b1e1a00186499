"""OTLP over both transports: the same request has the same outcome, in the words of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc  # type: ignore[import-untyped]
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from collector.contracts import SIGNALS
from collector.ingest.grpc import METHODS
from collector.ingest.refusals import UNREADABLE
from tests.ingest.serving import Server, serving
from tests.support.deadline import WAIT_SECONDS
from tests.support.exporters import exporter

_PROTOBUF = "application/x-protobuf"
_METHODS: dict[str, str] = {signal: method for method, signal in METHODS.items()}


class Answer(NamedTuple):
    """The code of gRPC and its message; the body; the seconds after which to try again."""

    code: int
    message: str = ""
    body: bytes = b""
    retry: int = 0


Export = Callable[..., Answer]


def _over_http(server: Server, body: bytes, signal: str = "logs", **headers: str) -> Answer:
    reply = server.post(body, f"/v1/{signal}", content_type=_PROTOBUF, **headers)
    assert reply.headers["content-type"] == _PROTOBUF
    if reply.status == 200:
        return Answer(0, "", reply.body)
    status = status_pb2.Status.FromString(reply.body)
    retry = int(reply.headers.get("retry-after", 0))
    return Answer(status.code, status.message, b"", retry)


def _over_grpc(server: Server, body: bytes, signal: str = "logs", **headers: str) -> Answer:
    metadata = [(name.replace("_", "-"), value) for name, value in headers.items()]
    error: Any = None
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary(_METHODS[signal])
        try:
            return Answer(0, "", call(body, timeout=WAIT_SECONDS, metadata=metadata))
        except grpc.RpcError as failure:
            error = failure
    code, retry = error.code().value[0], error_details_pb2.RetryInfo()
    if details := dict(error.trailing_metadata()).get("grpc-status-details-bin"):
        status = status_pb2.Status.FromString(details)
        assert (status.code, status.message) == (code, error.details())
        assert status.details[0].Unpack(retry)
    return Answer(code, error.details(), b"", retry.retry_delay.seconds)


@pytest.fixture(scope="module", params=["http", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each of them in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def start(transport: str) -> Callable[..., Any]:
    """Starts a server for the transport."""
    return lambda folder, **options: serving(folder, grpc=transport == "grpc", **options)


@pytest.fixture(scope="module")
def export(transport: str) -> Export:
    """Sends a request by the transport."""
    return _over_grpc if transport == "grpc" else _over_http


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any]) -> Iterator[Server]:
    """A receiver behind one proxy, with nothing else configured."""
    with start(tmp_path_factory.mktemp("otlp"), hops=1, mood="telling") as running:
        yield running


def _request(signal: str, known: int, unknown: int) -> bytes:
    """Items with a field of the schema, and items without any."""
    request: Any
    if signal == "logs":
        request = logs_service_pb2.ExportLogsServiceRequest()
        items = request.resource_logs.add().scope_logs.add().log_records
    elif signal == "traces":
        request = trace_service_pb2.ExportTraceServiceRequest()
        items = request.resource_spans.add().scope_spans.add().spans
    else:
        request = metrics_service_pb2.ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
        items = metric.gauge.data_points
    for number in range(known + unknown):
        name = "os.type" if number < known else "canary"
        items.add().attributes.add(key=name).value.string_value = "linux"
    return bytes(request.SerializeToString())


@pytest.mark.parametrize("signal", SIGNALS)
def test_success(server: Server, export: Export, signal: str) -> None:
    """Nothing is said of full success, nor of an empty request; rejected items are counted."""
    assert export(server, b"", signal) == export(server, _request(signal, 3, 0), signal)
    code, _, body, _ = export(server, _request(signal, 2, 5), signal)
    kinds: dict[str, tuple[Any, str]] = {
        "logs": (logs_service_pb2.ExportLogsServiceResponse, "rejected_log_records"),
        "traces": (trace_service_pb2.ExportTraceServiceResponse, "rejected_spans"),
        "metrics": (metrics_service_pb2.ExportMetricsServiceResponse, "rejected_data_points"),
    }
    kind, name = kinds[signal]
    partial = kind.FromString(body).partial_success
    assert (code, getattr(partial, name)) == (0, 5)
    assert (
        partial.error_message == "rejected: nothing_admitted 5; `collector explain --live` says why"
    )


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05abc", b"not protobuf", b"\x0a" * 100_000])
def test_undecodable(server: Server, export: Export, signal: str, body: bytes) -> None:
    """INVALID_ARGUMENT with a constant message."""
    message = f"{UNREADABLE.message} [{UNREADABLE.code}]"
    assert export(server, body, signal) == Answer(3, message)


def test_what_is_final(server: Server, export: Export) -> None:
    """No client sends again what is too large: RESOURCE_EXHAUSTED without ``RetryInfo``."""
    code, _, _, retry = export(server, b"\x0a" * (9 << 20))
    assert (code, retry) == (8, 0)


def test_senders(server: Server, export: Export) -> None:
    """The address that the trusted proxy reports, and the user agent, reach the filter."""
    export(server, _request("logs", 1, 0), x_forwarded_for="198.51.100.7, 192.0.2.1")
    export(server, _request("logs", 1, 0))
    lines = server.stdout.read_text().splitlines()
    senders = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("sender")]
    assert [address for address, _ in senders[-2:]] == ["192.0.2.1", None]


def test_tokens(tmp_path: Path, start: Callable[..., Any], export: Export) -> None:
    """Absent, wrong, or elsewhere: UNAUTHENTICATED, and the body is not read; the scheme in any
    case."""
    message = "authentication is missing or not accepted: send a valid bearer token [E411]"
    body = _request("logs", 1, 0)
    with start(tmp_path, token="abc") as server:
        for headers in (
            {},
            {"authorization": "Bearer abcd"},
            {"authorization": "Basic abc"},
            {"x_authorization": "Bearer abc"},
        ):
            for sent in (b"", body, bytes(3 << 20)):
                assert export(server, sent, **headers) == Answer(16, message)
        for scheme in ("Bearer", "bearer"):
            assert export(server, body, authorization=f"{scheme} abc") == Answer(0)
    assert server.observed() == [401] * 12 + [200] * 2


@pytest.mark.parametrize(
    ("mood", "answer"),
    [
        (
            "full",
            Answer(
                14,
                "there is no room for the events because a sink does not take what waits for it;"
                " none was kept: try again later [E505]",
                retry=5,
            ),
        ),
        (
            "failing",
            Answer(13, "the collector failed on this request; nothing of it is shown [E428]"),
        ),
    ],
)
def test_failures(
    tmp_path: Path, start: Callable[..., Any], export: Export, mood: str, answer: Answer
) -> None:
    """A full spool says when to try again; an unexpected error shows nothing, also in no log."""
    with start(tmp_path, mood=mood) as server:
        for _ in range(3):
            assert export(server, _request("logs", 0, 1)) == answer
    assert server.observed() == [{"full": 503, "failing": 500}[mood]] * 3
    assert "canary" not in server.said()
    assert "Traceback" not in server.said()


@pytest.mark.long
def test_an_exporter_tries_again(tmp_path: Path) -> None:
    """It sends again by itself what was refused for the moment, and not what failed."""
    logs = LoggerProvider()
    with serving(tmp_path, mood="changing") as server:
        logs.add_log_record_processor(
            SimpleLogRecordProcessor(exporter("logs", "http", server.port))
        )
        for _ in range(2):
            logs.get_logger("test").emit(body="x", attributes={"os.type": "linux"})
        logs.shutdown()
        assert server.observed() == [200, 503, 500]
