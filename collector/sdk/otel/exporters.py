"""Exporters of spans and log records that export only what a schema admits, rebuilt from empty."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct
from types import MappingProxyType
from typing import Any, TypeVar

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from collector.contracts import Record, Tally
from collector.filter import Filter
from collector.filter.otlp.items import ItemBatch, ItemContext
from collector.keyring import Keyring
from collector.ops.total import Total
from collector.schema import load_schema
from collector.schema.model import Schema

_MINUTE_NANOSECONDS = 60_000_000_000
_LAST_NANOSECOND = 1 << 63
_IDS, _IDS_AT_ONCE = Struct("=QQQ"), 64
_ID_DIGITS = {"trace_id": 32, "span_id": 16}

_T = TypeVar("_T")


class ItemFilter:
    """Filters items with a schema. Safe to use from several threads.

    Raises ``SchemaError``, and ``ConfigError`` E202 for a key that is not available.
    """

    def __init__(
        self, schema: str | Path | Schema, keys: Callable[[str, int], bytes] | None
    ) -> None:
        loaded = schema if isinstance(schema, Schema) else load_schema(schema)
        self._filter = Filter(loaded, keys=keys or Keyring())
        self._id_fields = [name for name in _ID_DIGITS if name in loaded.fields]
        self._total = Total(Tally)

    def __repr__(self) -> str:
        return f"<ItemFilter {self._filter.schema.id}>"

    def filter(
        self, items: Iterable[Any], rebuild: Callable[[_ExportContext, Any], _T | None]
    ) -> list[_T]:
        """Rebuild each item from empty, and return the items with an admitted value. An item that
        raises is counted as malformed."""
        context = _ExportContext(self._filter.otlp_items(_bare_resource), self._id_fields)
        admitted: list[_T] = []
        for item in items:
            try:
                rebuilt = rebuild(context, item)
            except Exception:  # noqa: BLE001 - an item of the application may raise anything
                context.items.reject("malformed")
                continue
            if rebuilt is not None:
                admitted.append(rebuilt)
        self._total.add(context.items.tally())
        return admitted

    def tally(self) -> Tally:
        """Return the counts so far."""
        return self._total.sum()


class _ExportContext:
    """The resources and scopes that the items of one export share. ``id_fields`` names the ids for
    which the schema has a field; ``new_ids`` are random ids of traces and spans."""

    def __init__(self, items: ItemBatch[Resource], id_fields: Sequence[str]) -> None:
        self.items = items
        self.id_fields = id_fields
        self.new_ids: Iterator[tuple[int, int]] = _random_ids()
        self._places: dict[tuple[int, int], tuple[Any, Any, ItemContext]] = {}
        self._last: tuple[Any, Any, ItemContext] | None = None

    def with_ids(self, attributes: dict[Any, Any], context: Any) -> dict[Any, Any]:
        """Add the ids that the schema has a field for, in hexadecimal."""
        ids = ((name, getattr(context, name)) for name in self.id_fields)
        texts = {name: f"{id_:0{_ID_DIGITS[name]}x}" for name, id_ in ids if type(id_) is int}
        return {**attributes, **texts}

    def place(self, resource: Any, scope: Any) -> ItemContext:
        """Return the attributes that items inherit from a resource and a scope, read once."""
        last = self._last  # most items have the same ones as the item before
        if last is None or last[0] is not resource or last[1] is not scope:
            last = self._last = self._remembered(resource, scope)
        return last[2]

    def _remembered(self, resource: Any, scope: Any) -> tuple[Any, Any, ItemContext]:
        """Look a place up by identity. The result holds both objects, so no other object can get
        the same id."""
        found = self._places.get((id(resource), id(scope)))
        if found is None:
            own = getattr(scope, "attributes", None)  # there may be no scope
            place = self.items.context(_plain(resource.attributes), _plain(own))
            found = self._places[id(resource), id(scope)] = resource, scope, place
        return found


def _random_ids() -> Iterator[tuple[int, int]]:
    """Yield trace ids of 128 bits and span ids of 64."""
    while True:
        for high, low, span_id in _IDS.iter_unpack(os.urandom(_IDS.size * _IDS_AT_ONCE)):
            yield high << 64 | low, span_id


def _bare_resource(attributes: Record) -> Resource:
    """Make a resource; ``Resource.create`` would add attributes of the environment."""
    return Resource(attributes)


def _plain(attributes: Any) -> dict[Any, Any]:
    """Return attributes as a dictionary. Raises ``TypeError`` for an unknown kind of mapping."""
    kind = type(attributes)
    if kind is MappingProxyType or kind is BoundedAttributes:
        attributes = attributes.copy()
        kind = type(attributes)
    if kind is dict or kind is OrderedDict:
        return attributes  # type: ignore[no-any-return]
    if attributes is None:
        return {}
    raise TypeError


def _truncate_to_minute(time: Any) -> int:
    """Truncate nanoseconds since 1970 to the minute; 0, OTLP's unknown time, for other values."""
    is_time = type(time) is int and 0 < time < _LAST_NANOSECOND
    return time - time % _MINUTE_NANOSECONDS if is_time else 0


class _MinimisedExporter:
    """What wrapped exporters of spans and of log records have in common."""

    def __init__(self, exporter: Any, item_filter: ItemFilter) -> None:
        self._exporter = exporter
        self._filter = item_filter

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {self._filter!r}>"

    def tally(self) -> Tally:
        """Return the counts so far: items received, admitted and rejected, and fields dropped."""
        return self._filter.tally()

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the exporter."""
        flushed: bool = self._exporter.force_flush(timeout_millis)
        return flushed


class MinimisedSpanExporter(_MinimisedExporter, SpanExporter):
    """Pass to another exporter what a schema admits of spans, and count everything else."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export what is admitted. A span is never a reason to raise or to fail."""
        minimised = self._filter.filter(spans, _rebuild_span)
        del spans  # an error report of the exporter may show our variables
        return self._exporter.export(minimised) if minimised else SpanExportResult.SUCCESS


class MinimisedLogExporter(_MinimisedExporter, LogRecordExporter):
    """Pass to another exporter what a schema admits of log records, and count everything else."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export what is admitted. A log record is never a reason to raise or to fail."""
        minimised = self._filter.filter(batch, _rebuild_log_record)
        del batch  # an error report of the exporter may show our variables
        return self._exporter.export(minimised) if minimised else LogRecordExportResult.SUCCESS


_SPAN_NAME = "span"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_OK, _ERROR = StatusCode.OK, StatusCode.ERROR
_STATUS_UNSET, _STATUS_OK, _STATUS_ERROR = Status(StatusCode.UNSET), Status(_OK), Status(_ERROR)


def _rebuild_span(context: _ExportContext, span: Any) -> ReadableSpan | None:
    """Rebuild a span from its admitted values; ``None`` if there are none. Raises what the span
    raises."""
    kind, status = span.kind, _status(span.status)
    kind = kind if type(kind) is SpanKind else SpanKind.INTERNAL
    start, end = _truncate_to_minute(span.start_time), _truncate_to_minute(span.end_time)
    place = context.place(span.resource, span.instrumentation_scope)
    attributes = _plain(span.attributes)
    if context.id_fields:
        attributes = context.with_ids(attributes, span.context)
    admitted = context.items.admit(place, attributes)
    if admitted is None:
        return None
    attributes, resource = admitted
    trace_id, span_id = next(context.new_ids)
    span_context = SpanContext(trace_id, span_id, False, _SAMPLED)
    # Arguments by position take half the time. The parent and the old scope are ``None``.
    return ReadableSpan(
        _SPAN_NAME, span_context, None, resource, attributes, (), (), kind, None, status, start, end
    )


def _status(status: Any) -> Status:
    """Return the status without its message."""
    code = None if status is None else status.status_code
    return _STATUS_ERROR if code is _ERROR else _STATUS_OK if code is _OK else _STATUS_UNSET


_NO_FLAGS = TraceFlags(TraceFlags.DEFAULT)


def _rebuild_log_record(context: _ExportContext, item: Any) -> ReadableLogRecord | None:
    """Rebuild a log record from its admitted values; ``None`` if there are none. Raises what the
    record raises."""
    record = item.log_record
    severity = record.severity_number
    times = _truncate_to_minute(record.timestamp), _truncate_to_minute(record.observed_timestamp)
    place = context.place(item.resource, item.instrumentation_scope)
    has_body = record.body is not None
    attributes = _plain(record.attributes)
    if context.id_fields:
        attributes = context.with_ids(attributes, record)
    admitted = context.items.admit(place, attributes, body=has_body)
    if admitted is None:
        return None
    known = severity if type(severity) is SeverityNumber else SeverityNumber.UNSPECIFIED
    return _log_record(*admitted, *times, known)


def _log_record(
    attributes: Record, resource: Resource, time: int, observed: int, severity: SeverityNumber
) -> ReadableLogRecord:
    record = LogRecord(
        timestamp=time,
        observed_timestamp=observed,
        severity_number=severity,
        attributes=attributes,
    )
    # The constructor takes these from the current span.
    record.trace_id = record.span_id = 0
    record.trace_flags = _NO_FLAGS
    record.context = Context()
    return ReadableLogRecord(record, resource)
