"""One function for the exporters that can be wrapped, and a reason for those that cannot."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from collector.errors import ConfigError
from collector.schema.model import Schema

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    from collector.sdk.otel.logs import MinimisedLogExporter
    from collector.sdk.otel.spans import MinimisedSpanExporter

__all__ = ["minimise"]

_EXTRA = "data-minimisation-collector[otel]"
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
    """An exporter that hands on to ``exporter`` only what the schema admits, rebuilt from empty.

    ``schema`` is a shipped schema's name, a file, or a schema. ``keys`` resolves key references of
    pseudonyms; unless given, they are those of the environment.

    Raises ``ConfigError`` E213 for what is no exporter of spans or log records, E201 if
    opentelemetry-sdk is not installed, and ``SchemaError``.
    """
    missing = False
    try:
        import_module("opentelemetry.sdk")
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise ConfigError("E201", f"this needs an extra: pip install '{_EXTRA}'")
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - an extra
        MetricExporter,
        MetricReader,
    )
    from opentelemetry.sdk.trace.export import SpanExporter  # noqa: PLC0415

    from collector.sdk.otel.sieve import Sieve  # noqa: PLC0415

    if isinstance(exporter, SpanExporter):
        from collector.sdk.otel.spans import MinimisedSpanExporter  # noqa: PLC0415

        return MinimisedSpanExporter(exporter, Sieve(schema, keys))
    from collector.sdk.otel.logs import (  # noqa: PLC0415
        LogRecordExporter,
        MinimisedLogExporter,
    )

    if isinstance(exporter, LogRecordExporter):
        return MinimisedLogExporter(exporter, Sieve(schema, keys))
    is_of_metrics = isinstance(exporter, MetricExporter | MetricReader)
    raise ConfigError("E213", _NO_METRICS if is_of_metrics else _NO_EXPORTER)
