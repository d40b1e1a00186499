"""Log records, rebuilt from empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import opentelemetry._logs as api
import opentelemetry.sdk._logs as sdk
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import TraceFlags

from collector.contracts import Record
from collector.sdk.otel.sieve import Batch, Minimised, minute, plain

# Names of 1.39 and later. Before that a log record of the SDK held its resource itself.
_IS_OLD = not hasattr(sdk, "ReadableLogRecord")
if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
else:
    LogRecordExporter = getattr(export, "LogRecordExporter", None) or export.LogExporter
    LogRecordExportResult = getattr(export, "LogRecordExportResult", None) or export.LogExportResult

__all__ = ["LogRecordExporter", "MinimisedLogExporter"]

_SDK: Any = sdk
_Record: Any = _SDK.LogRecord if _IS_OLD else api.LogRecord
_Item: Any = _SDK.LogData if _IS_OLD else _SDK.ReadableLogRecord
_NO_FLAGS = TraceFlags(TraceFlags.DEFAULT)


class MinimisedLogExporter(Minimised, LogRecordExporter):
    """Hands on to another exporter what a schema admits of log records, and counts everything
    else."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export what is admitted. Log records are never a reason to raise, nor to fail."""
        minimised = self._sieve.sifted(batch, _rebuilt)
        del batch  # an error of the exporter shows our variables to whoever reports it
        return self._exporter.export(minimised) if minimised else LogRecordExportResult.SUCCESS


def _rebuilt(batch: Batch, item: Any) -> Any:
    """What is admitted of a log record; ``None`` if that is nothing. Raises what the record
    raises."""
    record = item.log_record
    resource = record.resource if _IS_OLD else item.resource
    severity = record.severity_number
    times = minute(record.timestamp), minute(record.observed_timestamp)
    place = batch.place(resource, item.instrumentation_scope)
    has_body = record.body is not None
    own = plain(record.attributes)
    if batch.listed:
        own = batch.with_ids(own, record)
    admitted = batch.items.admit(place, own, body=has_body)
    if admitted is None:
        return None
    known = severity if type(severity) is SeverityNumber else SeverityNumber.UNSPECIFIED
    return _made(*admitted, *times, known)


def _made(
    attributes: Record, resource: Resource, time: int, observed: int, severity: SeverityNumber
) -> Any:
    old = {"resource": resource, "body": ""} if _IS_OLD else {}  # it cannot encode ``None``
    record = _Record(
        timestamp=time,
        observed_timestamp=observed,
        severity_number=severity,
        attributes=attributes,
        **old,
    )
    # The constructor takes these from the span that happens to be current.
    record.trace_id = record.span_id = 0
    record.trace_flags = _NO_FLAGS
    record.context = Context()
    return _Item(record, None) if _IS_OLD else _Item(record, resource)
