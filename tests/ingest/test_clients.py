"""The OpenTelemetry Python SDK over both transports: it is the judge."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from collector.contracts import Signal
from tests.ingest.serving import Server, serving
from tests.support.certificates import Authority
from tests.support.exporters import COMPRESSIONS, exporter

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_RESOURCE = Resource({"os.type": "linux", "os.version": "22.04", "secret": "canary"})
_TRANSPORTS = ["http", "grpc"]
Exporter = Callable[[Signal], Any]


def _exporter(transport: str, server: Server, compression: str, **more: Any) -> Exporter:
    """Makes the exporter of a signal, with a token."""
    headers = {"authorization": "Bearer secret"}
    return lambda signal: exporter(
        signal, transport, server.port, compression, headers=headers, **more
    )


def _send_all(make: Exporter) -> None:
    """A log record, some batches of spans, and a metric."""
    logs = LoggerProvider(resource=_RESOURCE)
    logs.add_log_record_processor(SimpleLogRecordProcessor(make("logs")))
    logs.get_logger("test").emit(LogRecord(body="canary", attributes={"device.type": "phone"}))
    traces = TracerProvider(resource=_RESOURCE, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(make("traces")))
    for _ in range(700):
        traces.get_tracer("test").start_span("canary", attributes={"device.type": "laptop"}).end()
    reader = PeriodicExportingMetricReader(make("metrics"), 1e9)
    metrics = MeterProvider([reader], resource=_RESOURCE, shutdown_on_exit=False)
    metrics.get_meter("test").create_counter("canary").add(1, {"device.type": "browser"})
    for provider in (logs, traces, metrics):
        provider.shutdown()


def _assert_all_were_stored(server: Server) -> None:
    """Each request was answered 200, with its sender, and each item was admitted."""
    assert set(server.observed()) == {200}
    lines = [line.split() for line in server.stdout.read_text().splitlines()]
    counts = [tuple(map(int, line[1:])) for line in lines if line[0] == "counts"]
    assert all(received == admitted for received, admitted in counts)
    assert sum(received for received, _ in counts) == 702
    senders = [line for line in lines if line[0] == "sender"]
    assert all("127.0.0.1" in line[1] and "OTel" in line[2] for line in senders)
    text = server.said()
    assert all(name in text for name in ("phone", "laptop", "browser", "22.04"))
    assert "canary" not in text


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("transport", _TRANSPORTS)
def test_the_sdk(tmp_path: Path, transport: str, compression: str) -> None:
    """Logs, traces and metrics with a token, plain and compressed."""
    is_grpc = transport == "grpc"
    with serving(tmp_path, grpc=is_grpc, token="secret", mood="telling") as server:
        _send_all(_exporter(transport, server, compression))
    _assert_all_were_stored(server)


def test_the_sdk_over_mutual_tls(tmp_path: Path) -> None:
    """Both sides have a certificate, as an operator sets them up."""
    authority = Authority(tmp_path)
    own, client = authority.issue("server"), authority.issue("client")
    ca = authority.own.certificate
    pair = client.key.read_bytes(), client.certificate.read_bytes()
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *pair)
    tls = [str(own.certificate), str(own.key), str(ca)]
    with serving(tmp_path, grpc=True, token="secret", mood="telling", tls=tls) as server:
        _send_all(_exporter("grpc", server, "gzip", credentials=credentials))
    _assert_all_were_stored(server)


@pytest.mark.parametrize("transport", _TRANSPORTS)
def test_the_sdk_understands_refusals(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    """A request without a token fails for good: the SDK gives up at once."""
    caplog.set_level(logging.ERROR)
    with serving(tmp_path, grpc=transport == "grpc", token="another") as server:
        logs = _exporter(transport, server, "gzip")("logs")
        assert logs.export([]) is LogRecordExportResult.FAILURE
        logs.shutdown()
    assert server.observed() == [401]
