"""Canaries in every slot of OTLP, and that nothing of them comes out.

The slots are those of the official descriptors, so that one which a later version adds is there by
itself. A message may lie in another of its kind once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.descriptor import Descriptor, FieldDescriptor  # type: ignore[import-untyped]

from collector import ConfigError, Filter
from collector.contracts import Signal
from tests.conftest import IS_WHOLE
from tests.filter.otlp_bodies import SIGNALS
from tests.filter.otlp_reference import REQUESTS
from tests.filter.schema_cases import schema_case
from tests.filter.test_leaks import shown_by
from tests.filter.traces import CANARY, DIGITS, mentions, reachable, told_by, watched
from tests.support.make_schemas import sample

_LISTS = frozenset(
    """resource_logs scope_logs log_records resource_spans scope_spans spans resource_metrics
    scope_metrics metrics data_points""".split()
)
KEYS = ("os.version", "client.address", "os", "chat", "device.id", "cpu.load", CANARY)
SCHEMAS = ("conferencing", "webrtc", "every-kind")
Slot = tuple[FieldDescriptor, ...]


def slots(message: Descriptor, path: Slot = ()) -> Iterator[Slot]:
    """The ways to every value that a message can hold."""
    for field in message.fields:
        inner = field.message_type
        if inner is None:
            yield (*path, field)
        elif [outer.message_type for outer in path].count(inner) < 2:
            yield from slots(inner, (*path, field))


def planted(signal: Signal, slot: Slot, key: str) -> Any:
    """A request with a canary in one slot; attributes on the way there are called ``key``."""
    request: Any = REQUESTS[signal]()
    message = request
    for field in slot[:-1]:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
        message.SetInParent()
        if is_attribute(field):
            message.key = key
    last = slot[-1]
    if last.is_repeated:
        getattr(message, last.name).append(mark(last))
    else:
        setattr(message, last.name, mark(last))
    complete(request)
    return request


def is_attribute(field: FieldDescriptor) -> bool:
    """Whether it holds an attribute, which has a key."""
    return field.message_type is not None and field.message_type.name == "KeyValue"


def mark(field: FieldDescriptor) -> Any:
    """A canary of the type of a field; the first digits for a number of 32 bits."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return CANARY.encode() if field.type == FieldDescriptor.TYPE_BYTES else CANARY
    if kind in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return int(DIGITS)
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return float(DIGITS)
    return True if kind == FieldDescriptor.CPPTYPE_BOOL else int(DIGITS[:9])


def complete(message: Any) -> None:
    """See to it that there is an item on every way down."""
    for field in message.DESCRIPTOR.fields:
        if field.name in _LISTS:
            for inner in getattr(message, field.name) or [getattr(message, field.name).add()]:
                complete(inner)
    if "gauge" in message.DESCRIPTOR.fields_by_name:
        complete(getattr(message, message.WhichOneof("data") or "gauge"))


def leaks(text: str) -> bool:
    return mentions(text) or DIGITS[:9] in text


def name_of(slot: Slot) -> str:
    return ".".join(field.name for field in slot)


@cache
def bodies(signal: Signal, key: str) -> tuple[tuple[bytes, bool], ...]:
    return tuple(_bodies(signal, key))


def _bodies(signal: Signal, key: str) -> Iterator[tuple[bytes, bool]]:
    """Each slot in turn, as protobuf and JSON, whole and cut off; under further keys those that lie
    in an attribute, as the others are the same."""
    for slot in slots(REQUESTS[signal].DESCRIPTOR):
        if key != KEYS[0] and not any(is_attribute(field) for field in slot):
            continue
        request = planted(signal, slot, key)
        body = request.SerializeToString()
        text = json_format.MessageToJson(request, indent=None).encode()
        yield from ((body, True), (body[:-1], True), (body + CANARY.encode(), True))
        yield from ((text, False), (text[:-1], False), (body, False), (text, True))


@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_leaks(signal: Signal, capfd: pytest.CaptureFixture[str]) -> None:
    """No output, error, log line, representation or object of the filter holds a canary. Each slot
    is tried under each schema, in some of the forms of a body."""
    says = {"peer": CANARY, "user_agent": CANARY}
    for at, schema in enumerate(SCHEMAS):
        filter_ = schema_case(schema).filter
        some = slice(None) if IS_WHOLE else slice(2 * at, None, 2 * len(SCHEMAS))
        filter_.admit_otlp(signal, b"", protobuf=True)
        with watched(capfd):
            for body, protobuf in chain.from_iterable(bodies(signal, key)[some] for key in KEYS):
                admission = filter_.admit_otlp(signal, body, protobuf=protobuf, **says)
                assert not leaks(shown_by(admission))
        assert not any(map(mentions, reachable(filter_)))


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_slot_is_tried(signal: Signal) -> None:
    """The slots that matter most are among those of the descriptors."""
    names = {name_of(slot) for slot in slots(REQUESTS[signal].DESCRIPTOR)}
    assert len(names) > 50
    item = {
        "logs": ["log_records.body.string_value", "log_records.event_name", "log_records.trace_id"],
        "traces": ["spans.name", "spans.events.name", "spans.links.attributes.key"],
        "metrics": [
            "metrics.name",
            "metrics.metadata.key",
            "metrics.gauge.data_points.exemplars.filtered_attributes.value.string_value",
            "metrics.summary.data_points.quantile_values.value",
        ],
    }[signal]
    ends = ["resource.attributes.key", "scope.name", "scope.attributes.value.bytes_value"]
    for end in [*item, *ends, "schema_url"]:
        assert any(name.endswith(end) for name in names), end


def leaky() -> Filter:
    """A filter of a schema that lets a canary through."""
    return Filter(
        sample(
            f"  os.version: {{kind: token, pattern: '{CANARY}', REST}}\n"
            f"  os.build_id: {{kind: integer, from: [os.version], minimum: 0, maximum: {DIGITS},"
            " step: 1, REST}\n"
        )
    )


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_search_finds(signal: Signal) -> None:
    """Under a schema that lets canaries through, they come out of the values of attributes of
    items, scopes and resources, and out of no other slot."""
    filter_ = leaky()
    found = set()
    for slot in slots(REQUESTS[signal].DESCRIPTOR):
        request = planted(signal, slot, "os.version")
        text = json_format.MessageToJson(request, indent=None).encode()
        for body, protobuf in ((request.SerializeToString(), True), (text, False)):
            admission = filter_.admit_otlp(signal, body, protobuf=protobuf)
            if leaks(shown_by(admission)):
                found.add((name_of(slot), protobuf))
    items = {
        "logs": ["log_records"],
        "traces": ["spans"],
        "metrics": [
            f"metrics.{kind}.data_points"
            for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary")
        ],
    }[signal]
    (resources,) = REQUESTS[signal].DESCRIPTOR.fields
    scopes = next(f.name for f in resources.message_type.fields if f.name in _LISTS)
    owners = [f"{resources.name}.resource", f"{resources.name}.{scopes}.scope"]
    owners += [f"{resources.name}.{scopes}.{item}" for item in items]
    assert found == {
        (f"{owner}.attributes.value.{value}", protobuf)
        for owner in owners
        for value in ("string_value", "int_value")
        for protobuf in (True, False)
    }


def test_raised_on_the_way() -> None:
    """What is raised while an item is looked at leaves without it."""

    def keys(_reference: str, _period: int) -> bytes:
        if first:
            return first.pop()
        raise ConfigError("E202", "no key")

    first = [bytes(32)]
    filter_ = Filter(schema_case("every-kind").schema, keys=keys)
    request: Any = REQUESTS["logs"]()
    complete(request)
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.attributes.add(key="device.id").value.string_value = CANARY
    record.body.string_value = CANARY
    text = json_format.MessageToJson(request).encode()
    for body, protobuf in ((request.SerializeToString(), True), (text, False)):
        with pytest.raises(ConfigError) as caught:
            filter_.admit_otlp("logs", body, protobuf=protobuf, peer=CANARY, user_agent=CANARY)
        assert not any(map(mentions, told_by(caught.value)))
    assert json.loads(text)
