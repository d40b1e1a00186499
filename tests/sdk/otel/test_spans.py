"""Spans are rebuilt from empty, with nothing but what the schema admits."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags

from collector.sdk.otel import minimise
from collector.testing.laws import fixed_key
from tests.sdk.otel.planted import TIME, held, span, written
from tests.sidecar.marks import Marks
from tests.support.make_schemas import HEAD, REST

_MINUTE = 60_000_000_000
_ENUM = "kind: enum, values: [linux]"


def _minimised(*spans: Any) -> tuple[ReadableSpan, ...]:
    inner = InMemorySpanExporter()
    assert minimise(inner).export(spans) is SpanExportResult.SUCCESS
    return inner.get_finished_spans()


def test_nothing_unlisted_is_left(tmp_path: Path) -> None:
    """No canary of a span is in the exported one, nor in the exporter's bytes; the same search
    finds them in the span itself."""
    marks = Marks()
    given = span(marks)
    (found,) = _minimised(given)
    assert not held(marks, found)
    assert not marks.found(written([found], tmp_path))
    assert held(marks, given) == set(marks.places.values())
    assert len(marks.found(written([given], tmp_path, as_json=False))) > 30


def test_what_is_kept() -> None:
    """Admitted attributes stay where they were, with kind, status code, and minutes."""
    (found,) = _minimised(span(Marks()))
    start = TIME - TIME % _MINUTE
    assert (dict(found.attributes or {}), dict(found.resource.attributes)) == (
        {"os.type": "linux"},
        {},
    )
    assert (found.name, found.kind) == ("span", SpanKind.CLIENT)
    assert (found.start_time, found.end_time) == (start, start)
    assert (found.status.status_code, found.status.description) == (StatusCode.ERROR, None)
    assert (found.events, found.links, found.parent) == ((), (), None)
    assert found.instrumentation_scope is None
    assert found.resource.schema_url == ""


def test_the_rest_is_new() -> None:
    """Ids are random; flags and trace state are constants."""
    given = span(Marks())
    contexts = [found.context for found in _minimised(given, given)]
    ids = {id_ for context in contexts if context for id_ in (context.trace_id, context.span_id)}
    assert len(ids) == 4
    assert all(context and context.is_valid and not context.is_remote for context in contexts)
    assert all(context and context.trace_flags == TraceFlags.SAMPLED for context in contexts)
    assert not any(context and context.trace_state for context in contexts)


def test_ids_that_a_schema_lists(tmp_path: Path) -> None:
    """They are filtered as attributes, here as pseudonyms by which the spans of one trace can be
    joined. The ids of spans are still random."""
    path = tmp_path / "sample.yaml"
    kind = "kind: pseudonym, key: 'env:KEY', rotate: 1d"
    path.write_text(
        f"{HEAD}fields:\n  trace_id: {{{kind}, {REST}}}\n  os.type: {{{_ENUM}, {REST}}}\n"
    )
    inner, marks = InMemorySpanExporter(), Marks()
    one, other = span(marks), span(marks)
    minimise(inner, path, keys=fixed_key).export([one, one, other])
    found = inner.get_finished_spans()
    told = [(each.attributes or {})["trace_id"] for each in found]
    assert told[0] == told[1] != told[2]
    assert len({each.context.trace_id for each in found if each.context}) == 3
    assert not held(marks, found)


@pytest.mark.parametrize("time", [None, 0, -1, 1 << 63, 1 << 70, 1.5, True, "2026", Marks()])
def test_odd_times_are_unknown(time: Any) -> None:
    odd = ReadableSpan("", attributes={"os.type": "linux"}, resource=Resource({}), start_time=time)
    (found,) = _minimised(odd)
    assert found.start_time == 0


def test_odd_kinds_are_those_of_every_span() -> None:
    """A value outside of the closed set is not exported."""
    members: Any = {"attributes": {"os.type": "linux"}, "kind": "x", "status": None}
    (found,) = _minimised(ReadableSpan("", resource=Resource({}), **members))
    assert (found.kind, found.status.status_code) == (SpanKind.INTERNAL, StatusCode.UNSET)


class _Failing(InMemorySpanExporter):
    """An exporter whose result a test sets."""

    def __init__(self, outcome: Any) -> None:
        super().__init__()
        self._outcome = outcome
        self.flushed = self.is_shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        super().export(spans)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome  # type: ignore[no-any-return]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.flushed = timeout_millis == 7
        return False

    def shutdown(self) -> None:
        self.is_shut = True


def test_failures_are_the_exporters_own() -> None:
    """Result and error are those of the exporter; the frames of the error show nothing of the
    span."""
    marks = Marks()
    given = span(marks)
    failing = minimise(_Failing(SpanExportResult.FAILURE))
    assert failing.export([given]) is SpanExportResult.FAILURE
    error = None
    try:
        minimise(_Failing(OSError("the network is down"))).export([given])
    except OSError as caught:
        error = caught
    assert error is not None
    trace = error.__traceback__
    assert trace is not None
    frames = [frame for frame, _ in traceback.walk_tb(trace.tb_next)]
    assert frames
    assert not held(marks, [frame.f_locals for frame in frames])


def test_flush_and_shutdown_are_handed_on() -> None:
    """Arguments and results are passed on."""
    inner = _Failing(None)
    exporter = minimise(inner)
    assert exporter.force_flush(7) is False
    exporter.shutdown()
    assert (inner.flushed, inner.is_shut) == (True, True)


def test_what_admits_nothing_is_counted() -> None:
    """It is not exported; if nothing is left, the exporter is not called."""
    inner = _Failing(SpanExportResult.FAILURE)
    exporter = minimise(inner)
    empty = ReadableSpan("", attributes={"http.route": "/", "chat": "hi"}, resource=Resource({}))
    assert exporter.export([empty]) is SpanExportResult.SUCCESS
    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert not inner.get_finished_spans()
    assert exporter.tally().as_dict() == {
        "received": 1,
        "admitted": 0,
        "rejected": {"nothing_admitted": 1},
        "content": {"chat": 1},
    }


class _Rude(ReadableSpan):
    """A span whose attributes cannot be read."""

    @property
    def attributes(self) -> Any:
        raise ValueError("canary")


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "a text",
        _Rude("", resource=Resource({})),
        ReadableSpan("", attributes=["os.type"], resource=Resource({})),  # type: ignore[arg-type]
        ReadableSpan("", attributes={"os.type": "linux"}, resource="linux"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_span_is_counted(odd: Any) -> None:
    """It is counted as malformed; nothing is raised, and the spans around it are exported."""
    inner = InMemorySpanExporter()
    exporter = minimise(inner)
    good = ReadableSpan("", attributes={"os.type": "linux"}, resource=Resource({}))
    assert exporter.export([good, odd, good]) is SpanExportResult.SUCCESS
    assert len(inner.get_finished_spans()) == 2
    tally = exporter.tally()
    assert (tally.received, tally.admitted, tally.rejected["malformed"]) == (3, 2, 1)


def test_twins() -> None:
    """Spans with the same admitted values become equal, whatever else they hold, in any order."""
    inner = {"os.type": "linux", "client.address": "::1"}
    others: list[Any] = [dict(reversed(inner.items())), inner | {"a": 1}, {"chat": "x"} | inner]
    resources = [Resource({"os.name": "Ubuntu", "user": name}) for name in ("Ana", "Ben", "Ida")]
    told = {
        found.to_json()
        .replace(f"{found.context.trace_id:032x}", "")
        .replace(f"{found.context.span_id:016x}", "")
        for found in _minimised(
            *(
                ReadableSpan(name, attributes=own, resource=resource)
                for name, own, resource in zip("abc", others, resources, strict=True)
            )
        )
        if found.context
    }
    assert len(told) == 1


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Marks:
    """Set environment variables that OpenTelemetry reads."""
    marks = Marks()
    service, host = marks.text("service name"), marks.text("resource attributes")
    monkeypatch.setenv("OTEL_SERVICE_NAME", service)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"user.name={host},os.type=linux")
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel,process,os,host")
    return marks


def test_what_the_environment_says_stays_here(hostile: Marks, tmp_path: Path) -> None:
    """A provider adds them to its resource, of which only admitted values are exported."""
    inner = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(minimise(inner)))
    tracer = provider.get_tracer(hostile.text("scope"), hostile.text("version"))
    with tracer.start_as_current_span(hostile.text("span")):
        pass
    provider.shutdown()
    (found,) = inner.get_finished_spans()
    assert set(held(hostile, provider.resource)) == {"service name", "resource attributes"}
    assert found.resource.attributes["os.type"] == "linux"
    assert {*found.resource.attributes} <= {"os.type", "os.version", "os.name", "os.build_id"}
    assert not hostile.found(written([found], tmp_path))


def test_repr_says_the_schema() -> None:
    """It shows nothing of the spans."""
    exporter = minimise(InMemorySpanExporter())
    assert "conferencing/1.0.0" in repr(exporter)
