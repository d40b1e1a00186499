"""Log records are rebuilt from empty, with nothing but what the schema admits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler, ReadableLogRecord, export
from opentelemetry.sdk._logs.export import (
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext

from collector.sdk.otel import minimise
from tests.sdk.otel.planted import TIME, held, log_record, written
from tests.sidecar.marks import Marks

_MINUTE = 60_000_000_000
_InMemory: Any = export.InMemoryLogRecordExporter  # its constructor is not typed


def _minimised(*records: Any) -> tuple[ReadableLogRecord, ...]:
    inner = _InMemory()
    assert minimise(inner).export(records) is LogRecordExportResult.SUCCESS
    return tuple(inner.get_finished_logs())


def _record(**members: Any) -> ReadableLogRecord:
    made = LogRecord(**{"attributes": {"os.type": "linux"}, **members})
    return ReadableLogRecord(made, Resource({"os.name": "Ubuntu", "service.name": "x"}))


def test_nothing_unlisted_is_left(tmp_path: Path) -> None:
    """No canary of a log record is in the exported one, nor in the exporter's bytes; the same
    search finds them in the record itself."""
    marks = Marks()
    given = log_record(marks)
    (found,) = _minimised(given)
    assert not held(marks, found)
    assert not marks.found(written([found], tmp_path))
    assert held(marks, given) == set(marks.places.values())
    assert len(marks.found(written([given], tmp_path, as_json=False))) > 20


def test_what_is_kept() -> None:
    """Admitted attributes stay where they were; severity is a number, times are minutes."""
    given = _record(
        timestamp=TIME, observed_timestamp=TIME + 5 * _MINUTE, severity_number=SeverityNumber.ERROR2
    )
    (found,) = _minimised(given)
    record, start = found.log_record, TIME - TIME % _MINUTE
    assert dict(record.attributes or {}) == {"os.type": "linux"}
    assert dict(found.resource.attributes) == {"os.name": "Ubuntu"}
    assert (record.timestamp, record.observed_timestamp) == (start, start + 5 * _MINUTE)
    assert record.severity_number is SeverityNumber.ERROR2
    assert (record.body, record.severity_text, record.event_name) == (None, None, None)
    assert found.instrumentation_scope is None
    assert found.resource.schema_url == ""


def test_the_span_that_is_current_is_not_named(tmp_path: Path) -> None:
    """The constructor would take ids from the current span, which for an exporter may be any."""
    marks = Marks()
    context = SpanContext(marks.whole("trace"), marks.whole("span"), is_remote=False)
    with trace.use_span(NonRecordingSpan(context)):
        (found,) = _minimised(_record())
    assert (found.log_record.trace_id, found.log_record.span_id) == (0, 0)
    assert not held(marks, found)
    assert not marks.found(written([found], tmp_path))


@pytest.mark.parametrize("severity", [None, 9, "ERROR", Marks()])
def test_odd_severities_are_unspecified(severity: Any) -> None:
    """A value outside of the closed set is not exported."""
    (found,) = _minimised(_record(severity_number=severity))
    assert found.log_record.severity_number is SeverityNumber.UNSPECIFIED


def test_bodies_are_counted_as_content() -> None:
    """The sidecar counts them in the same way."""
    exporter = minimise(_InMemory())
    exporter.export([_record(body="what was said"), _record()])
    assert exporter.tally().as_dict() == {
        "received": 2,
        "admitted": 2,
        "rejected": {},
        "content": {"chat": 1},
    }


def test_what_is_no_log_record_is_counted() -> None:
    """It is counted as malformed, and nothing is raised."""
    exporter = minimise(_InMemory())
    odd: Any = [None, "a text", object(), _record()]
    assert exporter.export(odd) is LogRecordExportResult.SUCCESS
    assert exporter.tally().rejected["malformed"] == 3


def test_logging_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Marks()
    monkeypatch.setenv("OTEL_SERVICE_NAME", marks.text("service name"))
    inner = _InMemory()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(minimise(inner)))
    logger = logging.getLogger(marks.text("logger"))
    with pytest.warns(DeprecationWarning, match="LoggingHandler"):
        handler = LoggingHandler(logger_provider=provider)
    logger.addHandler(handler)
    extra = {"client.address": "203.0.113.7", "user": marks.text("extra")}
    try:
        raise ValueError(marks.text("error"))
    except ValueError:
        logger.exception("%s", marks.text("argument"), extra=extra)
    (found,) = inner.get_finished_logs()
    assert dict(found.log_record.attributes or {}) == {"client.address": "203.0.113.7"}
    assert found.log_record.severity_number is SeverityNumber.ERROR
    assert not held(marks, found)
    assert not marks.found(written([found], tmp_path))


class _Closed(export.InMemoryLogRecordExporter):
    """An exporter that fails, and records its calls."""

    told: tuple[Any, ...] = ()

    def export(self, batch: Any) -> LogRecordExportResult:
        return LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.told += (timeout_millis,)
        return False

    def shutdown(self) -> None:
        self.told += ("shutdown",)


def test_the_exporters_own_word() -> None:
    """Result, flush and shutdown are those of the wrapped exporter."""
    inner = _Closed()  # type: ignore[no-untyped-call]
    exporter = minimise(inner)
    assert exporter.export([_record()]) is LogRecordExportResult.FAILURE
    assert exporter.force_flush(7) is False
    exporter.shutdown()
    assert inner.told == (7, "shutdown")
    assert "conferencing/1.0.0" in repr(exporter)
