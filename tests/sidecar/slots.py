"""Every slot of OTLP requests and of JSON documents, each with a canary in it.

OTLP's slots come from the official descriptors, so a slot that a later version adds is covered
automatically. A message may be nested once in another of its kind; deeper nesting adds nothing.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.descriptor import (  # type: ignore[import-untyped]
    Descriptor,
    FieldDescriptor,
)
from google.protobuf.message import Message  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from collector.contracts import Signal
from tests.sidecar.marks import Marks

REQUESTS: dict[Signal, type[Message]] = {
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
_MOST_OF_A_KIND = 2
_WIDE = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_NARROW = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_ENUM,
)
_REAL = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_LISTS = frozenset(
    """resource_logs scope_logs resource_spans scope_spans resource_metrics scope_metrics
    metrics""".split()
)
_ITEMS = frozenset(["log_records", "spans", "data_points"])
_UNKNOWN = 15_000
"""A field number that no message uses."""
_HEX = ("traceId", "spanId", "parentSpanId")
"""Bytes that OTLP/JSON writes in hexadecimal."""


class Slot(NamedTuple):
    """A place for a value: the fields that lead to it, from the request down. The fields of an
    ``unknown`` slot lead to a message; there the value gets a field number that the message does
    not know."""

    path: tuple[FieldDescriptor, ...]
    unknown: bool = False

    def __str__(self) -> str:
        names = [field.name for field in self.path]
        return ".".join([*names, "?"] if self.unknown else names)


def slots(message: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[Slot]:
    """Yield every slot of a message."""
    yield Slot(path, unknown=True)
    for field in message.fields:
        inner: Descriptor | None = field.message_type
        if inner is None:
            yield Slot((*path, field))
        elif [outer.message_type for outer in path].count(inner) < _MOST_OF_A_KIND:
            yield from slots(inner, (*path, field))


def planted(kind: type[Message], slot: Slot, marks: Marks, key: str) -> Message:
    """Return a request with a canary in one slot, the fields that lead there, and one item that is
    admitted.

    Attributes on the way get the key ``key``, unless the slot is that key.
    """
    request = message = kind()
    leads = slot.path if slot.unknown else slot.path[:-1]
    for field in leads:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
        message.SetInParent()
        if isinstance(message, KeyValue):
            message.key = key
    _fill(message, slot, marks)
    _complete(request)
    return request


def _fill(message: Message, slot: Slot, marks: Marks) -> None:
    if slot.unknown:
        text = marks.data(str(slot))
        message.MergeFromString(_key(_UNKNOWN) + bytes([len(text)]) + text)
        return
    last = slot.path[-1]
    value = _value(last, marks, str(slot))
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)


def _complete(message: Any) -> None:
    """Make every branch end in an item, with an attribute that is admitted."""
    for field in message.DESCRIPTOR.fields:
        if field.name in _ITEMS:
            for item in getattr(message, field.name) or [getattr(message, field.name).add()]:
                item.attributes.add(key="os.type").value.string_value = "linux"
        elif field.name in _LISTS:
            for inner in getattr(message, field.name) or [getattr(message, field.name).add()]:
                _complete(inner)
    if "gauge" in message.DESCRIPTOR.fields_by_name:
        kind = message.WhichOneof("data") or "gauge"
        _complete(getattr(message, kind))


def _key(number: int) -> bytes:
    key = number << 3 | 2
    return bytes([key & 127 | 128, key >> 7 & 127 | 128, key >> 14])


def _value(field: FieldDescriptor, marks: Marks, where: str) -> Any:
    kind = field.cpp_type
    if kind in _WIDE:
        return marks.whole(where)
    if kind in _NARROW:
        return marks.narrow(where)
    if kind in _REAL:
        return marks.fraction(where)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return marks.data(where) if is_bytes else marks.text(where)
    return True


def as_json(request: Message) -> Any:
    """Return a request as OTLP/JSON: numbers for enums, ids in hexadecimal."""
    return _with_hex(json_format.MessageToDict(request, use_integers_for_enums=True))


def _with_hex(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_hex(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        key: b64decode(inner).hex() if key in _HEX else _with_hex(inner)
        for key, inner in value.items()
    }


class Members(list[tuple[str, Any]]):
    """A JSON object that may have a key twice."""


def members(document: Any) -> Any:
    """Return a document with ``Members`` for objects."""
    return json.loads(json.dumps(document), object_pairs_hook=Members)


def variants(document: Any, marks: Marks, where: str = "") -> Iterator[Any]:
    """Yield the document (of ``Members``) once for each slot and each way to put a canary there:
    another value, another key, the same key twice, an additional member or element."""
    yield marks.text(where)
    yield marks.whole(where)
    yield marks.fraction(where)
    yield [marks.text(f"{where}[]")]
    yield Members([(marks.text(f"{where} key"), marks.text(f"{where}.*"))])
    if isinstance(document, Members):
        yield Members([*document, (marks.text(f"{where} key"), marks.text(f"{where}.*"))])
        for at, (key, value) in enumerate(document):
            before, after, place = document[:at], document[at + 1 :], f"{where}.{key}"
            yield Members([(key, marks.text(f"{place} twice")), *document])
            yield Members([*document, (key, marks.text(f"{place} twice"))])
            yield Members([*before, (marks.text(f"{place} key"), value), *after])
            for made in variants(value, marks, place):
                yield Members([*before, (key, made), *after])
    elif isinstance(document, list):
        yield [*document, marks.text(f"{where}[]")]
        for at, value in enumerate(document):
            for made in variants(value, marks, f"{where}[{at}]"):
                yield [*document[:at], made, *document[at + 1 :]]


def written(document: Any) -> str:
    """Return a document as JSON text."""
    if isinstance(document, Members):
        inside = (f"{json.dumps(key)}:{written(value)}" for key, value in document)
        return f"{{{','.join(inside)}}}"
    if isinstance(document, list):
        return f"[{','.join(map(written, document))}]"
    return json.dumps(document)
