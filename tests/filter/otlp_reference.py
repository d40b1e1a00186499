"""OTLP as docs/schema.md has it, with nothing clever in it: official classes, then dictionaries.

A body is parsed by ``opentelemetry-proto``; the attributes of a resource, a scope and an item
become one dictionary each, which are layers of an event for the reference filter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.contracts import Record, Signal
from tests.filter.reference import Outcome, Reference

REQUESTS: dict[Signal, type[Message]] = {
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
_Layer = dict[Any, Any]


class OtlpReference(Reference):
    """The reference filter, for parsed bodies of OTLP."""

    def admit_otlp(self, request: Any, **sender: str | None) -> Outcome:
        """Every item of a request; ``peer`` and ``user_agent`` if it is one."""
        return self._read_twice(lambda: self._admit_otlp(request), sender)

    def _is_readable(self, choices: Any) -> bool:
        """Arrays are not looked into."""
        return type(choices) is dict

    def _admit_otlp(self, request: Any) -> Outcome:
        out = Outcome()
        for layers in events(request):
            if self._asks_for(layers[0]):
                self._settle(layers, out)
            else:
                out.reject("not_selected")
        out.records = merged(out.records)
        out.tally.bytes_out = len(out.encode())
        return out

    def _asks_for(self, item: _Layer) -> bool:
        """Whether an item has what one of the ways asks for: `.` if it is one of them."""
        ways = [way for way in self._ways if way[0] == "."] or self._ways
        return not ways or any(self._is_selected(item, selecting) for _, selecting in ways)


def merged(records: list[Record]) -> list[Record]:
    """Each different record once, with its number, at the place of the first."""
    numbers: dict[str, int] = {}
    for record in records:
        text = json.dumps(record)
        numbers[text] = numbers.get(text, 0) + 1
    return [json.loads(text) | ({"count": n} if n > 1 else {}) for text, n in numbers.items()]


def events(request: Any) -> Iterator[list[_Layer]]:
    """For each item its own attributes, those of its scope and of its resource; and a member that
    stands for the body, if it has one."""
    for _, resources in request.ListFields():
        for resource in resources:
            for scope in scopes(resource):
                for item in items(scope):
                    own = attributes(item.attributes)
                    body = hasattr(item, "body") and item.HasField("body")
                    around = [attributes(scope.scope.attributes)]
                    around.append(attributes(resource.resource.attributes))
                    yield [own, *around, {"chat": True} if body else {}]


def scopes(resource: Any) -> Any:
    for name in ("scope_logs", "scope_spans", "scope_metrics"):
        if hasattr(resource, name):
            return getattr(resource, name)
    raise AssertionError(resource.DESCRIPTOR.name)


def items(scope: Any) -> Iterator[Any]:
    if hasattr(scope, "log_records"):
        yield from scope.log_records
    elif hasattr(scope, "spans"):
        yield from scope.spans
    else:
        for metric in scope.metrics:
            kind = metric.WhichOneof("data")
            if kind is not None:
                yield from getattr(metric, kind).data_points


def attributes(pairs: Any) -> _Layer:
    """Attributes as a dictionary; of equal keys the last."""
    return {pair.key: plain(pair.value) for pair in pairs}


def plain(value: AnyValue) -> Any:
    """A value as Python has it; arrays and bytes are lists."""
    kind = value.WhichOneof("value")
    if kind is None or kind.endswith("strindex"):
        return None
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return [] if kind in ("array_value", "bytes_value") else getattr(value, kind)


MOST_NESTED = 12


def any_value(value: Any, level: int = 0) -> AnyValue:
    """The opposite, for what JSON can say; what is nested deep is cut off."""
    if value is None or level > MOST_NESTED:
        return AnyValue()
    if type(value) is bool:
        return AnyValue(bool_value=value)
    if type(value) is int:
        if -(1 << 63) <= value < 1 << 63:
            return AnyValue(int_value=value)
        return AnyValue(double_value=float(value)) if abs(value) < 1 << 1000 else AnyValue()
    if type(value) is float:
        return AnyValue(double_value=value)
    if type(value) is bytes:
        return AnyValue(bytes_value=value)
    made = AnyValue()
    if type(value) is str:
        made.string_value = value
    elif type(value) is list:
        made.array_value.values.extend(any_value(each, level + 1) for each in value)
        made.array_value.SetInParent()
    else:
        made.kvlist_value.values.extend(key_value(pair, level + 1) for pair in value.items())
        made.kvlist_value.SetInParent()
    return made


def key_value(pair: tuple[str, Any], level: int = 0) -> KeyValue:
    """An attribute."""
    return KeyValue(key=pair[0], value=any_value(pair[1], level))
