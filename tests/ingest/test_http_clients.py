"""The OpenTelemetry Python SDK over HTTP, with and without compression; it is the judge."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.serving import Server, serving

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A receiver that wants a token."""
    with serving(tmp_path, token="secret", mood="telling") as running:
        yield running


def _options(server: Server, signal: str, compression: str) -> dict[str, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415

    return {
        "endpoint": f"http://127.0.0.1:{server.port}/v1/{signal}",
        "headers": {"authorization": "Bearer secret"},
        "compression": Compression(compression),
        "timeout": 10,
    }


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_traces(server: Server, compression: str) -> None:
    """Spans of a resource that has fields of the schema."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource({"os.type": "linux"}))
    exporter = OTLPSpanExporter(**_options(server, "traces", compression))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    for _ in range(700):
        with provider.get_tracer("t").start_as_current_span("join"):
            pass
    assert provider.force_flush()
    provider.shutdown()
    _all_were_taken(server, 700)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_logs(server: Server, compression: str) -> None:
    """Records of Python's own logging."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import (  # noqa: PLC0415
        OTLPLogExporter,
    )
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    provider = LoggerProvider(resource=Resource({"os.type": "linux"}))
    exporter = OTLPLogExporter(**_options(server, "logs", compression))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    log = provider.get_logger("t")
    for _ in range(50):
        log.emit(body="not kept")
    assert provider.force_flush()
    provider.shutdown()
    _all_were_taken(server, 50)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_metrics(server: Server, compression: str) -> None:
    """Data points."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
        OTLPMetricExporter,
    )
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(**_options(server, "metrics", compression)), 60_000
    )
    provider = MeterProvider([reader], resource=Resource({"os.type": "linux"}))
    counter = provider.get_meter("t").create_counter("joins")
    for number in range(5):
        counter.add(1, {"n": number})
    assert provider.force_flush()
    provider.shutdown()
    _all_were_taken(server, None)


def _all_were_taken(server: Server, number: int | None) -> None:
    """Every request was answered 200, and every item was received and admitted."""
    assert set(server.observed()) == {200}
    told = [line.split()[1:] for line in server.said().splitlines() if line.startswith("counts ")]
    received, admitted = (sum(int(line[at]) for line in told) for at in (0, 1))
    assert received == admitted
    assert received == number or (number is None and received)


def test_the_sdk_understands_refusals(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A request without a token fails for good: the SDK gives up at once, and says the status."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import (  # noqa: PLC0415
        OTLPLogExporter,
    )
    from opentelemetry.sdk._logs.export import LogRecordExportResult  # noqa: PLC0415

    caplog.set_level(logging.ERROR)
    with serving(tmp_path, token="secret") as server:
        exporter = OTLPLogExporter(**_options(server, "logs", "gzip") | {"headers": {}})
        assert exporter.export([]) is LogRecordExportResult.FAILURE
        exporter.shutdown()  # type: ignore[no-untyped-call]
    assert server.observed() == [401]
