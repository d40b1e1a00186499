"""OTLP's protobuf messages, trimmed to what the filter looks at.

The descriptors are our own and live in a pool of their own. They name attributes, the ways to them,
and whether a log record has a body; a field that is not named here is never made into an object of
Python's. It lives on inside the message as unknown bytes, so a message must never be serialised or
printed.

On the wire a list of ``KeyValue`` and a map are the same bytes. Read as a map, attributes are found
where the decoder has put them, which takes half as long as walking over them, and of equal keys the
last counts. What is only there or not (a body, an array) is read as a message that lies in itself
and never repeats: it takes no memory, and shows how deep it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from collector.contracts import Signal
from collector.errors import ConfigError
from collector.filter.otlp.wire import Shape

__all__ = ["KINDS", "Messages", "messages"]

_Members = dict[str, tuple[int, str]]
_EXTRA = "data-minimisation-collector[sidecar]"
_MAP, _MANY, _VALUE = "map", "*", "Value"
_TYPES = {"double": 1, "int64": 3, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3
_ITEMS = frozenset(["Record", "Span", "Number", "Histogram", "Exponential", "Summary"])

KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
"""The members of a metric that hold data points."""

_COMMON: dict[str, _Members] = {
    _VALUE: {
        "string_value": (1, "string"),
        "bool_value": (2, "bool"),
        "int_value": (3, "int64"),
        "double_value": (4, "double"),
        "array_value": (5, "DeepArray"),
        "kvlist_value": (6, "Pairs"),
        "bytes_value": (7, "bytes"),
    },
    "Pairs": {"values": (1, _MAP)},
    "Deep": {"array_value": (5, "DeepArray"), "kvlist_value": (6, "DeepPairs")},
    "DeepArray": {"values": (1, "Deep")},
    "DeepPairs": {"values": (1, "DeepPair")},
    "DeepPair": {"value": (2, "Deep")},
    "Resource": {"attributes": (1, _MAP)},
    "Scope": {"attributes": (3, _MAP)},
    "Request": {"resources": (1, "*Resources")},
    "Resources": {"resource": (1, "Resource"), "scopes": (2, "*Scopes")},
}
_OWN: dict[Signal, dict[str, _Members]] = {
    "logs": {
        "Scopes": {"scope": (1, "Scope"), "items": (2, "*Record")},
        "Record": {"body": (5, "Deep"), "attributes": (6, _MAP)},
    },
    "traces": {
        "Scopes": {"scope": (1, "Scope"), "items": (2, "*Span")},
        "Span": {"attributes": (9, _MAP)},
    },
    "metrics": {
        "Scopes": {"scope": (1, "Scope"), "metrics": (2, "*Metric")},
        "Metric": {
            "gauge": (5, "Numbers"),
            "sum": (7, "Numbers"),
            "histogram": (9, "Histograms"),
            "exponential_histogram": (10, "Exponentials"),
            "summary": (11, "Summaries"),
        },
        "Numbers": {"points": (1, "*Number")},
        "Histograms": {"points": (1, "*Histogram")},
        "Exponentials": {"points": (1, "*Exponential")},
        "Summaries": {"points": (1, "*Summary")},
        "Number": {"attributes": (7, _MAP)},
        "Histogram": {"attributes": (9, _MAP)},
        "Exponential": {"attributes": (1, _MAP)},
        "Summary": {"attributes": (7, _MAP)},
    },
}
_CHOICES = frozenset([_VALUE, "Metric"])
"""Messages of whose members one is there at most: of several the last."""


class Messages(NamedTuple):
    """One signal: how to decode a body, and what to count in it before.

    ``items`` is the shape of a body down to its items, ``parts`` that of all that is decoded;
    ``tags`` are the tags of the messages in it.
    """

    decode: Any
    error: type[Exception]
    items: Shape
    parts: Shape
    tags: bytes


@cache
def messages(signal: Signal) -> Messages:
    """The messages of a signal. Raises ``ConfigError`` E201 if protobuf is not installed."""
    named = _COMMON | _OWN[signal]
    decode, error = _decoder(signal, named)
    tags = {number << 3 | 2 for members in named.values() for number, _ in members.values()}
    return Messages(
        decode,
        error,
        items=_outer(named, "Request"),
        parts=_shapes(named)["Request"],
        tags=bytes(tags | {2 << 3 | 2}),
    )


def _decoder(signal: Signal, named: dict[str, _Members]) -> tuple[Any, type[Exception]]:
    missing = False
    try:
        descriptors: Any = import_module("google.protobuf.descriptor_pb2")
        pools: Any = import_module("google.protobuf.descriptor_pool")
        factory: Any = import_module("google.protobuf.message_factory")
        error: type[Exception] = import_module("google.protobuf.message").DecodeError
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise ConfigError("E201", f"OTLP as protobuf needs an extra: pip install '{_EXTRA}'")
    package = f"collector.{signal}"
    file = descriptors.FileDescriptorProto(name=f"{package}.proto", package=package)
    file.syntax = "proto3"
    for name, members in named.items():
        _declare(file.message_type.add(name=name), f".{package}.", members)
    pool = pools.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    request = factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Request"))
    return request.FromString, error


def _declare(message: Any, package: str, members: _Members) -> None:
    """Write the members of a message into its descriptor."""
    if message.name in _CHOICES:
        message.oneof_decl.add(name="value")
    for name, (number, kind) in members.items():
        field = message.field.add(name=name, number=number)
        many = kind == _MAP or kind.startswith(_MANY)
        field.label = _REPEATED if many else _OPTIONAL
        field.type = _TYPES.get(kind, _MESSAGE)
        if message.name in _CHOICES:
            field.oneof_index = 0
        if kind == _MAP:
            entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_OPTIONAL, type=_TYPES["string"])
            value = entry.field.add(name="value", number=2, label=_OPTIONAL, type=_MESSAGE)
            value.type_name = package + _VALUE
            field.type_name = f"{package}{message.name}.{entry.name}"
        elif kind not in _TYPES:
            field.type_name = package + kind.removeprefix(_MANY)


def _shapes(named: dict[str, _Members]) -> dict[str, Shape]:
    """All that is decoded, for counting it."""
    shapes = {name: Shape(is_item=name in _ITEMS) for name in named}
    pair = Shape({2: shapes[_VALUE]})
    for name, members in named.items():
        for number, kind in members.values():
            if kind not in _TYPES:
                shapes[name].members[number] = (
                    pair if kind == _MAP else shapes[kind.removeprefix(_MANY)]
                )
    return shapes


def _outer(named: dict[str, _Members], name: str) -> Shape:
    """The way down to the items, and nothing beside it."""
    if name in _ITEMS:
        return Shape(is_item=True)
    return Shape({number: _outer(named, kind) for number, kind in _ways(named, name)})


def _ways(named: dict[str, _Members], name: str) -> Iterator[tuple[int, str]]:
    """The members of a message that lead to items: repeated ones, and what holds data points."""
    for member, (number, kind) in named[name].items():
        if kind.startswith(_MANY) or member in KINDS:
            yield number, kind.removeprefix(_MANY)
