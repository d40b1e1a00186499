"""OpenTelemetry exporters that minimise before anything leaves the process.

from collector.sdk.otel import minimise

provider.add_span_processor(BatchSpanProcessor(minimise(OTLPSpanExporter())))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from collector.errors import ConfigError
from collector.extras import require
from collector.schema.model import Schema

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    from collector.sdk.otel.exporters import MinimisedLogExporter, MinimisedSpanExporter

__all__ = ["minimise"]

_NO_METRICS = (
    "metrics cannot be minimised at an exporter: their points are sums over attributes, so that two"
    " points which differ in an unlisted one would become two contradicting points of one series;"
    " choose the attributes before the sums, with a `View` and its `attribute_keys`"
)
_NO_EXPORTER = (
    "only exporters of spans and of log records can be minimised: give a `SpanExporter` or a"
    " `LogRecordExporter` of opentelemetry-sdk"
)


@overload
def minimise(
    exporter: SpanExporter,
    schema: str | Path | Schema = ...,
    *,
    keys: Callable[[str, int], bytes] | None = ...,
) -> MinimisedSpanExporter: ...
@overload
def minimise(
    exporter: LogRecordExporter,
    schema: str | Path | Schema = ...,
    *,
    keys: Callable[[str, int], bytes] | None = ...,
) -> MinimisedLogExporter: ...
def minimise(
    exporter: Any,
    schema: str | Path | Schema = "conferencing",
    *,
    keys: Callable[[str, int], bytes] | None = None,
) -> Any:
    """Wrap an exporter, so that it gets only what the schema admits, rebuilt from empty.

    ``schema`` is a shipped schema's name, a file, or a schema. ``keys`` resolves key references of
    pseudonyms (default: from the environment and the files that the schema names).

    Raises ``ConfigError`` E107 for an object that exports neither spans nor log records, E201 if
    opentelemetry-sdk is not installed, and ``SchemaError``.
    """
    require("this", "otel", "opentelemetry.sdk.trace")
    from opentelemetry.sdk._logs.export import LogRecordExporter  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - an extra
        MetricExporter,
        MetricReader,
    )
    from opentelemetry.sdk.trace.export import SpanExporter  # noqa: PLC0415

    from collector.sdk.otel.exporters import ItemFilter, MinimisedLogExporter, MinimisedSpanExporter  # noqa: PLC0415

    if isinstance(exporter, SpanExporter):
        return MinimisedSpanExporter(exporter, ItemFilter(schema, keys))
    if isinstance(exporter, LogRecordExporter):
        return MinimisedLogExporter(exporter, ItemFilter(schema, keys))
    exports_metrics = isinstance(exporter, MetricExporter | MetricReader)
    raise ConfigError("E107", _NO_METRICS if exports_metrics else _NO_EXPORTER)
