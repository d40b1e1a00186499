"""OTLP as JSON: decode a body into the attributes of its items, scope by scope.

The document around the items must be as OTLP writes it, or it is ``malformed``. A list stays
undecoded until its elements are counted. In an item, a member of the wrong type costs itself and
nothing else. Values whose names are not wanted are never decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import msgspec
from msgspec.structs import astuple

from collector.contracts import Signal
from collector.filter.decode.json import FAILURES, decode_scalar
from collector.filter.otlp.body import BODY, UNREAD, BodyRejected, Members, OtlpBody, is_read
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


def _members(*names: str) -> Callable[[Any], tuple[Raw, ...]]:
    """Make a decoder of the named members of an object, in this order, undecoded; ``NULL`` stands
    for one that is not there."""
    fields = [(f"m{at}", Raw, NULL) for at in range(len(names))]
    rename = {f"m{at}": name for at, name in enumerate(names)}
    kind = msgspec.defstruct("Members", fields, rename=rename, frozen=True, gc=False)
    decode = msgspec.json.Decoder(kind).decode
    return lambda raw: astuple(decode(raw))


_NAMES: dict[Signal, tuple[str, str, str]] = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
_LAYERS = {
    signal: (_members(resources), _members("resource", scopes), _members("scope", items))
    for signal, (resources, scopes, items) in _NAMES.items()
}
_metric = _members("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_points = _members("dataPoints")
_item = _members("attributes", "body")
_pairs = _members("values")
_FORMS = (
    *("stringValue", "boolValue", "intValue", "doubleValue"),
    *("kvlistValue", "arrayValue", "bytesValue"),
)
_value = _members(*_FORMS)
_NO_OTHERS = [NULL] * (len(_FORMS) - 1)


class _Attribute(msgspec.Struct, frozen=True, gc=False):
    """A text may be content, so the value stays undecoded."""

    key: str = ""
    value: Raw = NULL


_attribute = msgspec.json.Decoder(_Attribute).decode
_attributes = msgspec.json.Decoder(list[_Attribute]).decode


class JsonBody(OtlpBody):
    """A body of ``item_count`` items, which are not decoded yet. Raises ``BodyRejected``."""

    def __init__(self, signal: Signal, body: bytes | memoryview) -> None:
        self._signal = signal
        self.item_count: int = 0
        self._is_too_large = False
        self._scopes: list[tuple[Raw, Raw, list[Raw]]] = []
        if body[: len(BOM)] == BOM:
            body = memoryview(body)[len(BOM) :]
        reason = "too_large" if has_more_objects(body, MAX_PARTS) else refusal(body)
        if reason is None:
            try:
                self._find_items(body)
            except RecursionError:
                reason = "too_deep"
            except FAILURES:
                reason = "malformed"
        if reason is not None:
            raise BodyRejected(reason)
        if self._is_too_large:
            raise BodyRejected("too_large", max(1, self.item_count))

    def _find_items(self, body: bytes | memoryview) -> None:
        """Find the items, and count them. Raises what msgspec raises."""
        read_body, read_resource, read_scope = _LAYERS[self._signal]
        for each in self._elements(read_body(body)[0]):
            resource, scopes = read_resource(each)
            for one in self._elements(scopes):
                scope, items = read_scope(one)
                found = self._points(items) if self._signal == "metrics" else self._items(items)
                if found and not self._is_too_large:
                    self._scopes.append((resource, scope, found))

    def _elements(self, raw: Raw, *, are_items: bool = False) -> list[Raw]:
        """Return the elements of a list, and count items; nothing if they are too many."""
        found = [] if raw == NULL else decode_list(raw)
        is_counted = isinstance(found, int)
        if are_items:
            self.item_count += found if isinstance(found, int) else len(found)
        self._is_too_large = self._is_too_large or is_counted or self.item_count > MAX_ITEMS
        return [] if isinstance(found, int) else found

    def _items(self, raw: Raw) -> list[Raw]:
        return self._elements(raw, are_items=True)

    def _points(self, metrics: Raw) -> list[Raw]:
        """Return the data points of metrics."""
        kinds = (kind for metric in self._elements(metrics) for kind in _metric(metric))
        return [point for kind in kinds if kind != NULL for point in self._items(_points(kind)[0])]

    def scopes(self) -> Iterator[tuple[Raw, Raw, list[Raw]]]:
        """Yield its scopes, undecoded."""
        yield from self._scopes

    def outer_members(self, outer: Raw, wanted: Shape) -> Members:
        """Return the attributes of a resource or a scope, if it is an object."""
        return _read_wanted(_item(outer)[0], wanted) if _begins(outer) else {}

    def item_members(self, item: Raw, wanted: Shape) -> Members | None:
        """Return the attributes of an item. Raises ``BodyRejected`` for too many attributes."""
        if not _begins(item):
            return None
        attributes, body = _item(item)
        found = _read_wanted(attributes, wanted)
        if self._signal == "logs" and body != NULL:
            found[BODY] = UNREAD
        return found


def _begins(raw: Raw, opening: int = _OBJECT) -> bool:
    """Return whether a member begins as an object does, or with ``opening``."""
    return memoryview(raw)[0] == opening


def _read_wanted(raw: Raw, wanted: Shape) -> Members:
    """Read the wanted attributes of an undecoded list; of equal keys the last. Raises
    ``BodyRejected``."""
    found: Members = {}
    node_of = wanted.members.get
    for attribute in _listed(raw) if _begins(raw, _LIST) else ():
        node = node_of(attribute.key)
        if node is not None:
            found[attribute.key] = _read_value(attribute.value, node)
    return found


def _listed(raw: Raw) -> list[_Attribute]:
    """Return the attributes in a list, at once if nothing else is there, and else one by one."""
    if not has_many_commas(memoryview(raw)):
        try:
            return _attributes(raw)
        except FAILURES:
            pass
    elements = decode_list(raw)
    if isinstance(elements, int):
        raise BodyRejected("too_large")
    found = []
    for element in elements:
        try:
            found.append(_attribute(element))
        except FAILURES:  # it is no attribute
            continue
    return found


def _read_value(raw: Raw, node: Node) -> Any:
    """Read a value, which has at most one form; of a list of keys and values, the wanted ones."""
    if raw == NULL:
        return None
    if not _begins(raw):
        return UNREAD
    text, *others = values = _value(raw)
    if others == _NO_OTHERS and text != NULL:  # nearly all values are texts
        return _read_text(text) if is_read(node) else UNREAD
    forms = [(form, each) for form, each in zip(_FORMS, values, strict=True) if each != NULL]
    if len(forms) != 1:
        return UNREAD if forms else None
    ((form, inner),) = forms
    if form == "kvlistValue" and node.object is not None:
        return _read_wanted(_pairs(inner)[0], node.object) if _begins(inner) else UNREAD
    read = _READERS.get(form)
    return read(inner) if read is not None and is_read(node) else UNREAD


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
    """Read a number, also as text; three words stand for values that are no number."""
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


_READERS = {
    "boolValue": _read_bool,
    "intValue": _read_int,
    "doubleValue": _read_double,
}
