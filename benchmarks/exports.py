"""Bodies of OTLP: 200 log records, spans or data points, with what the corpus ``small`` says under
the names of the semantic conventions. Log records have a body of chat, too.

Either ``shared``, as an SDK sends them: device and system are the resource's, and each item has an
address and five attributes more. Or as a gateway does that gathers from many clients: each item has
everything, 17 to 20 attributes. No two items are alike.
"""

from __future__ import annotations

import random
from base64 import b64decode
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import orjson

from benchmarks.meetings import report
from benchmarks.talk import ENGLISH
from collector.contracts import Signal

ITEMS = 200
"""Items of one body."""

_NANO = 1_000_000
_CLASSES: dict[Signal, tuple[str, str]] = {
    "logs": ("logs.v1.logs", "ExportLogsServiceRequest"),
    "traces": ("trace.v1.trace", "ExportTraceServiceRequest"),
    "metrics": ("metrics.v1.metrics", "ExportMetricsServiceRequest"),
}
_SHARED = ("device", "os")
_RESOURCE = {
    "service.name": "meeting-edge",
    "service.version": "5.17.2",
    "host.name": "edge-17.example.org",
    "telemetry.sdk.language": "cpp",
}


def bodies(signal: Signal, *, protobuf: bool, shared: bool, rng: random.Random) -> Iterator[bytes]:
    """Yield bodies without end."""
    make, add = _MAKERS[signal]
    while True:
        request, resource, items = make()
        _fill(resource, _RESOURCE)
        if shared:
            _fill(resource, {key: report(rng, ENGLISH)[key] for key in _SHARED})
        for _ in range(ITEMS):
            event = report(rng, ENGLISH)
            at = event.pop("timestamp") * _NANO
            if shared:
                event = {key: event[key] for key in event if key not in (*_SHARED, "participant")}
            _fill(add(items, rng, at), event)
        yield request.SerializeToString() if protobuf else _json(request)


def _fill(attributes: Any, event: dict[str, Any]) -> None:
    for name, value in _flat(event):
        _set(attributes.add(key=name).value, value)


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of an event under their dotted names."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _set(value: Any, plain: Any) -> None:
    kind = {str: "string_value", int: "int_value", float: "double_value"}[type(plain)]
    setattr(value, kind, plain)


def message(signal: Signal) -> Any:
    """Return the official class of a request."""
    module, name = _CLASSES[signal]
    return getattr(import_module(f"opentelemetry.proto.collector.{module}_service_pb2"), name)


def _logs() -> tuple[Any, Any, Any]:
    request = message("logs")()
    each = request.resource_logs.add()
    return request, each.resource.attributes, each.scope_logs.add().log_records


def _traces() -> tuple[Any, Any, Any]:
    request = message("traces")()
    each = request.resource_spans.add()
    return request, each.resource.attributes, each.scope_spans.add().spans


def _metrics() -> tuple[Any, Any, Any]:
    request = message("metrics")()
    each = request.resource_metrics.add()
    metric = each.scope_metrics.add().metrics.add(name="meeting.rtt", unit="ms")
    return request, each.resource.attributes, metric.gauge.data_points


def _log(items: Any, rng: random.Random, at: int) -> Any:
    item = items.add(time_unix_nano=at, severity_text="INFO", severity_number=9)
    item.body.string_value = rng.choice(ENGLISH.sentences)
    return item.attributes


def _span(items: Any, rng: random.Random, at: int) -> Any:
    item = items.add(name="participant.stats", start_time_unix_nano=at, end_time_unix_nano=at)
    item.trace_id, item.span_id = rng.randbytes(16), rng.randbytes(8)
    return item.attributes


def _point(items: Any, rng: random.Random, at: int) -> Any:
    return items.add(time_unix_nano=at, as_double=rng.uniform(8, 240)).attributes


_MAKERS: dict[Signal, Any] = {
    "logs": (_logs, _log),
    "traces": (_traces, _span),
    "metrics": (_metrics, _point),
}


def _json(request: Any) -> bytes:
    """OTLP/JSON is protobuf's, but for identifiers, which are in hex."""
    from google.protobuf.json_format import (  # type: ignore[import-untyped]  # noqa: PLC0415
        MessageToDict,
    )

    document = MessageToDict(request, use_integers_for_enums=True)
    for resource in document.get("resourceSpans", ()):
        for span in resource["scopeSpans"][0]["spans"]:
            for name in ("traceId", "spanId"):
                span[name] = b64decode(span[name]).hex()
    return orjson.dumps(document)
