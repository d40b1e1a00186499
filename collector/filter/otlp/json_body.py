"""OTLP as JSON: decode a body into the attributes of its items, scope by scope.

The document around the items must have the form of OTLP, or it is ``malformed``. Its lists stay
undecoded until their elements are counted. In an item, only a member of the wrong type itself is
lost. Unwanted values are never decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any, NamedTuple

import msgspec

from collector.contracts import Signal
from collector.filter.decode.json import decode_scalar
from collector.filter.members import FAILURES, members_decoder
from collector.filter.otlp.attributes import BODY, UNREAD
from collector.filter.otlp.body import BodyRejected, Members, OtlpBody, Wanted
from collector.filter.otlp.wire import MAX_PARTS
from collector.filter.records import MAX_ITEMS, decode_list, has_many_commas
from collector.filter.shape import NULL, Node, Shape
from collector.filter.text import BOM, has_more_objects, refusal

Raw = msgspec.Raw

_OBJECT, _LIST = ord("{"), ord("[")
_TEXT, _BOOL = frozenset([str]), frozenset([bool])
_INT, _DOUBLE = frozenset([int, str]), frozenset([int, float, str])
_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_NO_NUMBERS = frozenset(["NaN", "Infinity", "-Infinity"])


class _Value(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """A value in its possible forms, all undecoded, because a text may be content."""

    string_value: Raw = NULL
    bool_value: Raw = NULL
    int_value: Raw = NULL
    double_value: Raw = NULL
    kvlist_value: Raw = NULL
    array_value: Raw = NULL
    bytes_value: Raw = NULL


class _Attribute(msgspec.Struct, frozen=True, gc=False):
    key: str = ""
    value: _Value | None = None


class _LooseAttribute(msgspec.Struct, frozen=True, gc=False):
    key: str = ""
    value: Raw = NULL


class _Pairs(msgspec.Struct, frozen=True, gc=False):
    values: Raw = NULL


_Either = _Attribute | _LooseAttribute

_decode_attribute = msgspec.json.Decoder(_LooseAttribute).decode
_decode_value = msgspec.json.Decoder(_Value).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_pairs = msgspec.json.Decoder(_Pairs).decode


def _begins(raw: Raw, opening: int = _OBJECT) -> bool:
    """Return whether a member begins with ``opening``, by default like an object."""
    return memoryview(raw)[0] == opening


def _attributes(raw: Raw) -> Iterator[_LooseAttribute]:
    """Yield the attributes in an undecoded list; skip other elements. Raises ``BodyRejected``."""
    if not _begins(raw, _LIST):
        return
    found = decode_list(raw)
    if isinstance(found, int):
        raise BodyRejected("too_large")
    for one in found:
        attribute = _attempt(_decode_attribute, one)
        if attribute is not None:
            yield attribute


def read_value(value: Raw | _Value | None, node: Node) -> Any:
    """Read a value; of a list of keys and values, the wanted ones."""
    if value is None or value == NULL:
        return None
    if isinstance(value, Raw):
        if not _begins(value):
            return UNREAD
        value = _decode_value(value)
    forms = _forms(value)
    if len(forms) != 1:
        return UNREAD if forms else None
    ((form, inner),) = forms
    if form == "kvlist_value" and node.object is not None:
        return _read_pairs(inner, node.object)
    kinds = _READERS.get(form)
    return UNREAD if kinds is None or not node.is_read else kinds(inner)


def _forms(found: _Value) -> list[tuple[str, Raw]]:
    """Return the forms of a value that are present; a valid one has at most one."""
    values = zip(_Value.__struct_fields__, msgspec.structs.astuple(found), strict=True)
    return [(form, raw) for form, raw in values if raw != NULL]


def _read_text(raw: Raw) -> Any:
    text = decode_scalar(raw, _TEXT)
    return text if type(text) is str else UNREAD


def _read_bool(raw: Raw) -> Any:
    return decode_scalar(raw, _BOOL)


def _read_int(raw: Raw) -> Any:
    """Read an integer of 64 bits, as a number or as text."""
    number = decode_scalar(raw, _INT)
    if type(number) is str:
        number = int(number) if _DIGITS.fullmatch(number) else None
    is_whole = type(number) is int and -(1 << 63) <= number < 1 << 63
    return number if is_whole else UNREAD


def _read_double(raw: Raw) -> Any:
    """Read a number, also as text; three words stand for non-finite values."""
    number = decode_scalar(raw, _DOUBLE)
    if type(number) is str:
        if number not in _NO_NUMBERS and not _NUMBER.fullmatch(number):
            return UNREAD
    elif type(number) not in _DOUBLE or number == inf:  # the number is too long
        return UNREAD
    try:
        return float(number)
    except OverflowError:
        return UNREAD


def _read_pairs(raw: Raw, shape: Shape) -> Any:
    return _read_wanted(_attributes(_decode_pairs(raw).values), shape) if _begins(raw) else UNREAD


_READERS = {
    "string_value": _read_text,
    "bool_value": _read_bool,
    "int_value": _read_int,
    "double_value": _read_double,
}


def _attempt(decode: Any, raw: Any) -> Any:
    try:
        return decode(raw)
    except FAILURES:
        return None


_MAX_STRICT = 1 << 20
"""In a larger item, the attributes stay undecoded until they are counted."""

_POINT_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_NAMES: dict[Signal, tuple[str, str, str]] = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


class _Item(msgspec.Struct, frozen=True, gc=False):
    attributes: list[_Attribute] | None = None
    body: Raw = NULL


class _LooseItem(msgspec.Struct, frozen=True, gc=False):
    attributes: Raw = NULL
    body: Raw = NULL


_item_decoder = msgspec.json.Decoder(_Item).decode
_loose_decoder = msgspec.json.Decoder(_LooseItem).decode


def _members(*names: str) -> Any:
    """Return a decoder of these members of an object, which leaves their values undecoded."""
    return members_decoder(dict.fromkeys(names, Raw), NULL)


_LAYERS = {
    signal: (_members(resources), _members("resource", scopes), _members("scope", items))
    for signal, (resources, scopes, items) in _NAMES.items()
}
_metric, _points = _members(*_POINT_KINDS), _members("dataPoints")


def _object(**members: tuple[str, Any]) -> Any:
    """Make the type of an object from the name and the type of each member.

    Missing members are ``NULL`` if they stay undecoded, else ``None``.
    """
    return msgspec.defstruct(
        "Object",
        [
            (attribute, kind, NULL) if kind is Raw else (attribute, kind | None, None)
            for attribute, (_, kind) in members.items()
        ],
        rename={attribute: name for attribute, (name, _) in members.items()},
        frozen=True,
        gc=False,
    )


def _list_of(kind: Any) -> Any:
    return list[kind]


def _document_decoder(signal: Signal) -> Any:
    """Make the decoder of a whole body, down to its items, which stay undecoded."""
    resources, scopes, items = _NAMES[signal]
    item: Any = Raw
    if signal == "metrics":
        points = _object(points=("dataPoints", _list_of(Raw)))
        item = _object(**{name: (name, points) for name in _POINT_KINDS})
    scope = _object(scope=("scope", Raw), items=(items, _list_of(item)))
    resource = _object(resource=("resource", Raw), scopes=(scopes, _list_of(scope)))
    return msgspec.json.Decoder(_object(resources=(resources, _list_of(resource)))).decode


_DOCUMENTS = {signal: _document_decoder(signal) for signal in _NAMES}


class _Scope(NamedTuple):
    resource: Raw
    scope: Raw
    items: list[Raw]


class JsonBody(OtlpBody):
    """A body of ``item_count`` items, which are not decoded yet. Raises ``BodyRejected``."""

    def __init__(self, signal: Signal, body: bytes | memoryview) -> None:
        self._signal = signal
        self._is_log = signal == "logs"
        self._decode = _DOCUMENTS[signal]
        self._is_small = len(body) <= _MAX_STRICT
        self.item_count: int = 0
        self._is_too_large = False
        self._scopes: list[_Scope] = []
        self._open(body)
        if self._is_too_large:
            raise BodyRejected("too_large", max(1, self.item_count))

    def _open(self, body: bytes | memoryview) -> None:
        if body[: len(BOM)] == BOM:
            body = memoryview(body)[len(BOM) :]
        reason = "too_large" if has_more_objects(body, MAX_PARTS) else refusal(body)
        if reason is None and not self._find_typed_items(body):
            try:
                self._find_items(body)
            except RecursionError:
                reason = "too_deep"
            except FAILURES:
                reason = "malformed"
        if reason is not None:
            raise BodyRejected(reason)

    def _find_typed_items(self, body: bytes | memoryview) -> bool:
        """Find the items of a body if all types are right and there cannot be too many items."""
        document = None if has_many_commas(body) else _attempt(self._decode, body)
        if document is None:
            return False
        for resource in document.resources or ():
            for scope in resource.scopes or ():
                found = scope.items or []
                if self._signal == "metrics":
                    found = [point for metric in found for point in _points_of(metric)]
                self.item_count += len(found)
                if found:
                    self._scopes.append(_Scope(resource.resource, scope.scope, found))
        self._is_too_large = self.item_count > MAX_ITEMS
        return True

    def _find_items(self, body: bytes | memoryview) -> None:
        """Find the items, and count them. Raises what msgspec raises."""
        read_body, read_resource, read_scope = _LAYERS[self._signal]
        for each in self._decode_outer_list(read_body(body)[0]):
            resource, scopes = read_resource(each)
            for one in self._decode_outer_list(scopes):
                scope, items = read_scope(one)
                found = self._points(items) if self._signal == "metrics" else self._items(items)
                if found and not self._is_too_large:
                    self._scopes.append(_Scope(resource, scope, found))

    def _decode_outer_list(self, raw: Raw) -> list[Raw]:
        """Return the elements of a list above the items."""
        found = _list(raw)
        if isinstance(found, int):
            self._is_too_large = True
            return []
        return found

    def _items(self, raw: Raw) -> list[Raw]:
        found = _list(raw)
        self.item_count += found if isinstance(found, int) else len(found)
        self._is_too_large = self._is_too_large or self.item_count > MAX_ITEMS
        return [] if isinstance(found, int) else found

    def _points(self, metrics: Raw) -> list[Raw]:
        kinds = (kind for metric in self._decode_outer_list(metrics) for kind in _metric(metric))
        present = (kind for kind in kinds if kind != NULL)
        return [point for kind in present for point in self._items(_points(kind)[0])]

    def scopes(self) -> Iterator[tuple[Raw, Raw, list[Raw]]]:
        """Yield its scopes, undecoded."""
        yield from self._scopes

    def outer_members(self, outer: Raw, wanted: Wanted) -> Members:
        """Return the attributes of a resource or a scope, if it is an object."""
        if not _begins(outer):
            return {}
        return _read_wanted(_attributes_and_body(outer, is_small=False)[0], wanted.shape)

    def item_members(self, item: Raw, wanted: Wanted) -> Members | None:
        """Return the attributes of an item. Raises ``BodyRejected`` for too many attributes."""
        if not _begins(item):
            return None
        attributes, body = _attributes_and_body(item, is_small=self._is_small)
        found = _read_wanted(attributes, wanted.shape)
        if self._is_log and body is not NULL and body != NULL:
            found[BODY] = UNREAD
        return found


def _only_text(value: _Value) -> Any:
    """Return the text of a value that has no other form."""
    if (
        value.bool_value is NULL
        and value.int_value is NULL
        and value.double_value is NULL
        and value.kvlist_value is NULL
        and value.array_value is NULL
        and value.bytes_value is NULL
    ):
        try:
            return _decode_text(value.string_value)
        except FAILURES:  # not a text, or null
            pass
    return None


def _points_of(metric: Any) -> Iterator[Raw]:
    """Yield the data points of a metric."""
    for kind in msgspec.structs.astuple(metric):
        if kind is not None:
            yield from kind.points or ()


def _read_wanted(attributes: Iterable[_Either], shape: Shape) -> Members:
    """Read the wanted attributes; of equal keys the last."""
    found: Members = {}
    node_of = shape.members.get
    for attribute in attributes:
        node = node_of(attribute.key)
        if node is None:
            continue
        value = attribute.value
        text = None
        if type(value) is _Value and node.is_read:
            text = _only_text(value)
        found[attribute.key] = read_value(value, node) if text is None else text
    return found


def _attributes_and_body(raw: Raw, *, is_small: bool) -> tuple[Iterable[_Either], Raw]:
    """Return the attributes and the body of an item, or the attributes of a resource or scope. If a
    type is wrong, or the text may be long, it is read attribute by attribute."""
    if is_small or len(memoryview(raw)) <= _MAX_STRICT:
        item = _attempt(_item_decoder, raw)
        if item is not None:
            return item.attributes or (), item.body
    loose = _loose_decoder(raw)
    return _attributes(loose.attributes), loose.body


def _list(raw: Raw) -> list[Raw] | int:
    return [] if raw == NULL else decode_list(raw)
