"""Exporters that can be wrapped, and those that cannot."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from collector import ConfigError, SchemaError, load_schema
from collector.sdk.otel import minimise
from collector.testing.laws import fixed_key
from tests.support.make_schemas import HEAD, REST


class _Metrics(MetricExporter):
    """An exporter of metrics."""

    def export(self, metrics_data: MetricsData, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        raise NotImplementedError

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("exporter", [_Metrics(), InMemoryMetricReader()])
def test_metrics_are_refused(exporter: Any) -> None:
    """The error has the reason and an alternative."""
    with pytest.raises(ConfigError, match=r"contradicting points.*`View`.*\[E107\]"):
        minimise(exporter)


@pytest.mark.parametrize("exporter", [None, "otlp", InMemorySpanExporter, object()])
def test_other_things_are_refused(exporter: Any) -> None:
    """The error names what is accepted."""
    with pytest.raises(ConfigError, match=r"`SpanExporter`.*\[E107\]"):
        minimise(exporter)


def test_schemas() -> None:
    exporter = minimise(InMemorySpanExporter(), load_schema("conferencing-strict"))
    assert "conferencing-strict" in repr(exporter)
    with pytest.raises(SchemaError):
        minimise(InMemorySpanExporter(), "no-such-schema")


def test_keys(tmp_path: Any) -> None:
    """The default is the environment; a key that is not available is an error at once."""
    path = tmp_path / "sample.yaml"
    kind = "kind: pseudonym, key: 'env:NO_SUCH_KEY', rotate: 1d"
    path.write_text(f"{HEAD}fields:\n  device.id: {{{kind}, {REST}}}\n")
    with pytest.raises(ConfigError, match="E202"):
        minimise(InMemorySpanExporter(), path)
    inner = InMemorySpanExporter()
    given = ReadableSpan("", attributes={"device.id": "a-serial-number"}, resource=Resource({}))
    minimise(inner, path, keys=fixed_key).export([given])
    (found,) = inner.get_finished_spans()
    assert len(str((found.attributes or {})["device.id"])) == 26


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra if opentelemetry-sdk is missing."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"data-minimisation-collector\[otel\].*\[E201\]"):
        minimise(InMemorySpanExporter())
