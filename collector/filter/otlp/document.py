"""OTLP as JSON: a body into the signatures of its items, scope by scope.

The document around the items must be as OTLP writes it, or it is ``malformed``. Its lists stay
undecoded until their elements are counted. In an item, a member of the wrong type costs itself and
nothing else. Values whose names are not looked for are never decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from collector.contracts import Rejection, Signal
from collector.filter.events import refusal
from collector.filter.otlp.attributes import BODY, UNREAD, Signature
from collector.filter.otlp.body import Body, Looks, Refused
from collector.filter.otlp.values import Attribute, Raw, begins, each_attribute, value
from collector.filter.otlp.wire import MAX_PARTS
from collector.filter.records import MAX_ITEMS, listed
from collector.filter.shape import has_more_objects
from collector.filter.text import BOM
from collector.filter.tolerant import FAILURES, NULL

__all__ = ["JsonBody"]

_BODY = (BODY, UNREAD)
_LARGE = 1 << 20
"""The attributes of a larger item stay undecoded until they are counted."""

_KINDS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_NAMES: dict[Signal, tuple[str, str, str]] = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


class _Item(msgspec.Struct, frozen=True, gc=False):
    attributes: list[Attribute] | None = None
    body: Raw = NULL


class _LooseItem(msgspec.Struct, frozen=True, gc=False):
    attributes: Raw = NULL
    body: Raw = NULL


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_loose_item = msgspec.json.Decoder(_LooseItem).decode


def _members(*names: str) -> Any:
    """Reads the members of an object, in their order, undecoded."""
    fields = [(f"m{n}", Raw, NULL) for n in range(len(names))]
    rename = {f"m{n}": name for n, name in enumerate(names)}
    kind = msgspec.defstruct("Members", fields, rename=rename, frozen=True, gc=False)
    decode = msgspec.json.Decoder(kind).decode
    return lambda raw: msgspec.structs.astuple(decode(raw))


_READ = {
    signal: (_members(resources), _members("resource", scopes), _members("scope", items))
    for signal, (resources, scopes, items) in _NAMES.items()
}
_metric, _points = _members(*_KINDS), _members("dataPoints")


class _Scope(NamedTuple):
    resource: Raw
    scope: Raw
    items: list[Raw]


class JsonBody(Body):
    """A body of ``number`` items, which are not decoded yet. Raises ``Refused``."""

    def __init__(self, signal: Signal, body: bytes | memoryview) -> None:
        self._signal = signal
        self.number: int = 0
        self._is_too_large = False
        self._scopes: list[_Scope] = []
        self._read(body)
        if self._is_too_large:
            raise Refused("too_large", max(1, self.number))

    def _read(self, body: bytes | memoryview) -> None:
        if body[: len(BOM)] == BOM:
            body = memoryview(body)[len(BOM) :]
        reason = "too_large" if has_more_objects(body, MAX_PARTS) else refusal(body)
        if reason is None:
            try:
                self._open(body)
            except RecursionError:
                reason = "too_deep"
            except FAILURES:
                reason = "malformed"
        if reason is not None:
            raise Refused(reason)

    def _open(self, body: bytes | memoryview) -> None:
        """Find the items, and count them. Raises what msgspec raises."""
        read_body, read_resource, read_scope = _READ[self._signal]
        for each in self._listed(read_body(body)[0]):
            resource, scopes = read_resource(each)
            for one in self._listed(scopes):
                scope, items = read_scope(one)
                found = self._points(items) if self._signal == "metrics" else self._items(items)
                if found and not self._is_too_large:
                    self._scopes.append(_Scope(resource, scope, found))

    def _listed(self, raw: Raw) -> list[Raw]:
        """The elements of a list of what is no item."""
        found = _list(raw)
        if isinstance(found, int):
            self._is_too_large = True
            return []
        return found

    def _items(self, raw: Raw) -> list[Raw]:
        found = _list(raw)
        self.number += found if isinstance(found, int) else len(found)
        self._is_too_large = self._is_too_large or self.number > MAX_ITEMS
        return [] if isinstance(found, int) else found

    def _points(self, metrics: Raw) -> list[Raw]:
        """The data points of metrics."""
        kinds = (kind for metric in self._listed(metrics) for kind in _metric(metric))
        there = (kind for kind in kinds if kind != NULL)
        return [point for kind in there for point in self._items(_points(kind)[0])]

    def scopes(self) -> Iterator[tuple[Raw, Raw, list[Iterable[Raw]]]]:
        """Its scopes, undecoded."""
        for resource, scope, items in self._scopes:
            yield resource, scope, [items]

    def gathered(
        self, items: Iterable[Raw], looks: Looks
    ) -> tuple[dict[Signature, int], dict[Rejection, int]]:
        """The signatures of items. Raises ``Refused`` for attributes without end."""
        found: dict[Signature, int] = {}
        rejected: dict[Rejection, int] = {}
        for raw in items:
            if begins(raw):
                signature = self._item(raw, looks)
                found[signature] = found.get(signature, 0) + 1
            else:
                rejected["not_an_object"] = rejected.get("not_an_object", 0) + 1
        return found, rejected

    def around(self, outer: Raw, looks: Looks) -> Signature:
        """The signature of a resource or a scope, if it is an object. Raises as ``gathered``."""
        return self._item(outer, looks, has_body=False) if begins(outer) else ()

    def _item(self, raw: Raw, looks: Looks, *, has_body: bool = True) -> Signature:
        attributes, body = _strictly(raw) or _loosely(raw)
        pairs = self._pairs(attributes, looks)
        if has_body and self._signal == "logs" and body != NULL:
            pairs.append(_BODY)
        return tuple(pairs)

    def _pairs(self, attributes: Iterable[Attribute], looks: Looks) -> list[tuple[str, Any]]:
        """What is looked for in attributes; of equal keys the last."""
        names = looks.names
        last = {one.key: one.value for one in attributes if one.key in names}
        return [(name, value(raw, names[name])) for name, raw in last.items()]


def _strictly(raw: Raw) -> tuple[Iterable[Attribute], Raw] | None:
    """The attributes and the body of an item in which nothing is of a wrong type."""
    if len(memoryview(raw)) <= _LARGE:
        with suppress(*FAILURES):
            item = _decode_item(raw)
            return item.attributes or (), item.body
    return None


def _loosely(raw: Raw) -> tuple[Iterable[Attribute], Raw]:
    item = _decode_loose_item(raw)
    return each_attribute(item.attributes), item.body


def _list(raw: Raw) -> list[Raw] | int:
    return [] if raw == NULL else listed(raw)
