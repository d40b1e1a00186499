"""Spans and log records with a canary in every slot that the SDK's types have.

Slots are the parameters of constructors, so that one which a later version adds is found: it is not
in the table, and a test fails until the table has it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from tests.filter.traces import reachable
from tests.sidecar.marks import Marks

TIME = 1_795_663_999_123_456_789


def attributes(marks: Marks, where: str) -> dict[str, Any]:
    """Attributes of every type under names that are listed, that are not, and of content."""
    return {
        "os.type": "linux",
        "os.version": marks.text(f"{where} os.version"),
        "client.address": marks.whole(f"{where} client.address"),
        "device": {"type": marks.text(f"{where} device.type")},
        "os.name": (marks.text(f"{where} os.name[]"),),
        "os.build_id": marks.data(f"{where} os.build_id"),
        "device.type": marks.fraction(f"{where} device.type"),
        "chat": marks.text(f"{where} chat"),
        "http.route": marks.text(f"{where} http.route"),
        marks.text(f"{where} name"): True,
    }


def planted(kind: Any, marks: Marks, where: str = "") -> Any:
    """An object of a type of the SDK, with canaries in all that its constructor takes."""
    where = f"{where}{kind.__name__}"
    make = kind.__init__ if "__init__" in vars(kind) else kind.__new__
    names = [*inspect.signature(make).parameters][1:]
    return kind(**{name: _slot(kind, name, marks, f"{where}.") for name in names})


def _slot(kind: Any, name: str, marks: Marks, where: str) -> Any:
    text = marks.text
    slots: dict[str, Any] = {
        "attributes": lambda: attributes(marks, where),
        "body": lambda: {text(f"{where}body key"): text(f"{where}body")},
        "context": lambda: (
            Context({"key": text(f"{where}context")})
            if kind is LogRecord
            else planted(SpanContext, marks, where)
        ),
        "description": lambda: text(f"{where}description"),
        "events": lambda: [planted(Event, marks, where)],
        "exception": lambda: ValueError(text(f"{where}exception")),
        "instrumentation_info": lambda: None,  # a type that is gone but for its name
        "instrumentation_scope": lambda: planted(InstrumentationScope, marks, where),
        "is_remote": lambda: True,
        "kind": lambda: SpanKind.CLIENT,
        "limit": lambda: None,
        "limits": LogRecordLimits,
        "links": lambda: [planted(Link, marks, where)],
        "log_record": lambda: planted(LogRecord, marks, where),
        "parent": lambda: planted(SpanContext, marks, where),
        "resource": lambda: planted(Resource, marks, where),
        "severity_number": lambda: SeverityNumber.ERROR2,
        "status": lambda: planted(Status, marks, where),
        "status_code": lambda: StatusCode.ERROR,
        "trace_flags": lambda: TraceFlags(0xFF),
        "trace_state": lambda: TraceState([("key", text(f"{where}trace_state"))]),
    }
    texts = ("name", "version", "schema_url", "severity_text", "event_name")
    times = ("start_time", "end_time", "timestamp", "observed_timestamp")
    slots |= dict.fromkeys(texts, lambda: text(f"{where}{name}"))
    slots |= dict.fromkeys(times, lambda: TIME)
    slots |= dict.fromkeys(("trace_id", "span_id"), lambda: marks.whole(f"{where}{name}"))
    return slots[name]()


def span(marks: Marks) -> ReadableSpan:
    """A span that is full of canaries."""
    return planted(ReadableSpan, marks)  # type: ignore[no-any-return]


def log_record(marks: Marks) -> ReadableLogRecord:
    """A log record that is full of canaries."""
    return planted(ReadableLogRecord, marks)  # type: ignore[no-any-return]


def held(marks: Marks, items: Any) -> set[str]:
    """The places of the canaries that objects hold, at any depth."""
    found = set()
    for one in reachable(items):
        if isinstance(one, dict):  # the garbage collector does not go by keys that are texts
            found |= {place for key in one for place in _places(marks, str(key))}
        elif isinstance(one, bytes):
            found |= set(_places(marks, one.decode("latin-1")))
        elif isinstance(one, str | int | float):
            found |= set(_places(marks, str(one)))
    return found


def _places(marks: Marks, text: str) -> Iterator[str]:
    digits = text.removeprefix("0.")
    yield from (place for mark, place in marks.places.items() if mark in text or mark == digits)


def written(items: Any, folder: Path, *, as_json: bool = True) -> Path:
    """A file with all that exporters write of items: protobuf, and JSON (which has no bytes)."""
    is_spans = isinstance(items[0], ReadableSpan)
    body = encode_spans(items) if is_spans else encode_logs(items)
    path = folder / "exported"
    path.write_bytes(body.SerializeToString())
    if as_json:
        with path.open("a") as file:
            file.writelines(item.to_json() for item in items)
    return path
