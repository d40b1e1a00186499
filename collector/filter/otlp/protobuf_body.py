"""OTLP as protobuf: decode a body into the attributes of its items, scope by scope.

The messages are declared here with only the members that are read; all others are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

from collector.contracts import Signal
from collector.extras import missing as missing_extra
from collector.filter.otlp.attributes import BODY, UNREAD
from collector.filter.otlp.body import BodyRejected, Members, OtlpBody, Wanted
from collector.filter.otlp.wire import (
    MessageCounts,
    MessageShape,
    NotProtobuf,
    count_messages,
    may_exceed,
)
from collector.filter.records import MAX_ITEMS
from collector.filter.shape import Node, Shape

_Members = dict[str, tuple[int, str]]
_MAP, _MANY, _VALUE = "map", "*", "Value"
_TYPES = {"double": 1, "int64": 3, "bool": 8, "string": 9, "bytes": 12}
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3
_ITEMS = frozenset(["Record", "Span", "Number", "Histogram", "Exponential", "Summary"])

_POINT_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
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
_ONE_OF = frozenset([_VALUE, "Metric"])
"""Messages with at most one member: the last one sent counts."""


class Messages(NamedTuple):
    """The messages of one signal: how to decode a body, and what to count in it first.

    ``items`` is the shape of a body down to its items, ``parts`` the shape of everything decoded;
    ``tags`` are the tags of the messages in it.
    """

    decode: Any
    error: type[Exception]
    items: MessageShape
    parts: MessageShape
    tags: bytes


@cache
def messages(signal: Signal) -> Messages:
    """Return the messages of a signal. Raises ``ConfigError`` E201 if protobuf is not installed."""
    named = _COMMON | _OWN[signal]
    decode, error = _decoder(signal, named)
    tags = {number << 3 | 2 for members in named.values() for number, _ in members.values()}
    return Messages(
        decode,
        error,
        items=_outer(named, "Request"),
        parts=_shapes(named)["Request"],
        tags=bytes(tags),
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
        raise missing_extra("OTLP as protobuf", "sidecar")
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
    if message.name in _ONE_OF:
        message.oneof_decl.add(name="value")
    for name, (number, kind) in members.items():
        field = message.field.add(name=name, number=number)
        many = kind == _MAP or kind.startswith(_MANY)
        field.label = _REPEATED if many else _OPTIONAL
        field.type = _TYPES.get(kind, _MESSAGE)
        if message.name in _ONE_OF:
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


def _shapes(named: dict[str, _Members]) -> dict[str, MessageShape]:
    """Return the shapes of all messages that are decoded, for counting them."""
    shapes = {name: MessageShape(is_item=name in _ITEMS) for name in named}
    pair = MessageShape({2: shapes[_VALUE]})
    for name, members in named.items():
        for number, kind in members.values():
            if kind not in _TYPES:
                shapes[name].members[number] = (
                    pair if kind == _MAP else shapes[kind.removeprefix(_MANY)]
                )
    return shapes


def _outer(named: dict[str, _Members], name: str) -> MessageShape:
    """Return the shape of only the path down to the items."""
    if name in _ITEMS:
        return MessageShape(is_item=True)
    return MessageShape(
        {number: _outer(named, kind) for number, kind in _members_with_items(named, name)}
    )


def _members_with_items(named: dict[str, _Members], name: str) -> Iterator[tuple[int, str]]:
    """Yield the members that lead to items: repeated ones, and those that hold data points."""
    for member, (number, kind) in named[name].items():
        if kind.startswith(_MANY) or member in _POINT_KINDS:
            yield number, kind.removeprefix(_MANY)


_SCALARS = frozenset(["string_value", "bool_value", "int_value", "double_value"])


class ProtobufBody(OtlpBody):
    """A decoded body of ``item_count`` items.

    Raises ``BodyRejected``, and ``ConfigError`` E201 if protobuf is not installed.
    """

    def __init__(self, signal: Signal, body: bytes) -> None:
        self._signal = signal
        self._resources = _decode(body, messages(signal)).resources
        scopes = (scope for resource in self._resources for scope in resource.scopes)
        self.item_count: int = sum(len(items) for scope in scopes for items in self._lists(scope))

    def _lists(self, scope: Any) -> Iterator[Any]:
        """Yield the lists of items in a scope."""
        if self._signal != "metrics":
            yield scope.items
            return
        for metric in scope.metrics:
            kind = metric.WhichOneof("value")
            if kind is not None:
                yield getattr(metric, kind).points

    def scopes(self) -> Iterator[tuple[Any, Any, Iterable[Any]]]:
        """Yield its scopes, as messages."""
        for each in self._resources:
            for scope in each.scopes:
                yield each.resource, scope.scope, chain.from_iterable(self._lists(scope))

    def outer_members(self, outer: Any, wanted: Wanted) -> Members:
        """Return the attributes of a resource or a scope."""
        return _read_wanted(outer.attributes, wanted.shape)

    def item_members(self, item: Any, wanted: Wanted) -> Members:
        """Return the attributes of an item."""
        found = _read_wanted(item.attributes, wanted.shape)
        if self._signal == "logs" and item.HasField("body"):
            found[BODY] = UNREAD
        return found


def _read_wanted(attributes: Any, shape: Shape) -> Members:
    """Read the wanted attributes. A text is read without a call, because most values are texts."""
    found: Members = {}
    nodes: dict[Any, Node] = shape.members
    for name in filter(nodes.__contains__, attributes):
        value, node = attributes[name], nodes[name]
        text = value.string_value if node.is_read else None
        found[name] = text or _read_value(value, node)
    return found


def _read_value(value: Any, node: Node) -> Any:
    """Read a value; from a list of keys and values, only the wanted ones."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "kvlist_value" and node.object is not None:
        return _read_wanted(value.kvlist_value.values, node.object)
    return getattr(value, which) if which in _SCALARS and node.is_read else UNREAD


def _decode(body: bytes, known: Messages) -> Any:
    """Decode the body as a message, if it is not too large for that."""
    if may_exceed(body, known.tags):
        items = _count_messages(body, known.items)
        if (
            items.items > MAX_ITEMS
            or items.is_too_large
            or _count_messages(body, known.parts).is_too_large
        ):
            raise BodyRejected("too_large", max(1, items.items))
    with suppress(known.error, ValueError, RecursionError):
        return known.decode(body)
    is_deep = _count_messages(body, known.parts).is_too_deep
    raise BodyRejected("too_deep" if is_deep else "malformed")


def _count_messages(body: bytes, shape: MessageShape) -> MessageCounts:
    with suppress(NotProtobuf):
        return count_messages(body, shape)
    raise BodyRejected("malformed")
