"""A real sidecar, real exporters, a hostile environment, and every byte between them."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from collector.sdk.otel import minimise
from tests.sdk.otel.planted import attributes
from tests.sdk.wires import Wire, wire
from tests.sidecar.marks import Marks
from tests.support.database import query
from tests.support.delivery import delivered
from tests.support.exporters import exporter
from tests.support.sidecar import started

_ADDRESSES = {"http": "203.0.113.41", "grpc": "203.0.113.42"}


def _exporters(way: str, port: int) -> tuple[Any, Any]:
    return exporter("traces", way, port), exporter("logs", way, port)


def _spans(marks: Marks, exporting: Any, own: dict[str, Any]) -> None:
    """Make a span with canaries in all that an application can set."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporting))
    tracer = provider.get_tracer(
        marks.text("scope"), marks.text("version"), schema_url=marks.text("schema url"),
        attributes=attributes(marks, "scope"),
    )  # fmt: skip
    state = TraceState([("key", marks.text("trace state"))])
    flags = TraceFlags(TraceFlags.SAMPLED)
    parent = SpanContext(marks.whole("trace id"), marks.whole("parent"), True, flags, state)
    with tracer.start_as_current_span(
        marks.text("span"),
        trace.set_span_in_context(trace.NonRecordingSpan(parent)),
        attributes=attributes(marks, "span") | own,
        links=[trace.Link(parent, attributes(marks, "link"))],
    ) as span:
        span.add_event(marks.text("event"), attributes(marks, "event"))
        span.record_exception(ValueError(marks.text("exception")))
        span.set_status(Status(StatusCode.ERROR, marks.text("status")))
    provider.shutdown()


def _logs(marks: Marks, exporting: Any, own: dict[str, Any]) -> None:
    """Make a log record with canaries in all that an application can set."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporting))
    logger = logging.getLogger(marks.text("logger"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        logger.addHandler(LoggingHandler(logger_provider=provider))
    extra = {name: value for name, value in attributes(marks, "extra").items() if name != "name"}
    try:
        raise ValueError(marks.text("exception"))
    except ValueError:
        logger.exception("%s", marks.text("argument"), extra=extra | own)
    provider.shutdown()


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Marks:
    """Canaries, some of them in the environment."""
    made = Marks()
    monkeypatch.setenv("OTEL_SERVICE_NAME", made.text("service name"))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"user.name={made.text('resource')}")
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel,process,os,host")
    return made


def test_nothing_unlisted_crosses_the_wire(tmp_path: Path, marks: Marks) -> None:
    """Spans and log records, over HTTP and gRPC: no canary is sent, and the admitted values arrive
    in the store. Without the wrapper the same search finds canaries."""
    with started(tmp_path) as sidecar:
        wires: dict[str, Wire] = {}
        for way, address in _ADDRESSES.items():
            with wire(sidecar.ports[way]) as wires[way]:
                spans, logs = map(minimise, _exporters(way, wires[way].port))
                _spans(marks, spans, {"client.address": address})
                _logs(marks, logs, {"client.address": address})
        with wire(sidecar.ports["http"]) as bare:
            _spans(marks, _exporters("http", bare.port)[0], {"client.address": "203.0.113.43"})
        assert delivered(sidecar) == 5
    for way, address in _ADDRESSES.items():
        sent = tmp_path / way
        sent.write_bytes(wires[way].sent)
        assert sent.read_bytes().count(address.encode()) == 2
        assert not marks.found(sent)
    (tmp_path / "bare").write_bytes(bare.sent)
    assert len({leak.place for leak in marks.found(tmp_path / "bare")}) > 20
    assert _stored(tmp_path / "collector-data" / "store.db") >= set(_ADDRESSES.values())


def _stored(store: Path) -> set[str]:
    return {row[0] for row in query(store, 'SELECT "client.address" FROM conferencing')}
