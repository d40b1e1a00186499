"""OTLP as protobuf: a body into the signatures of its items, scope by scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from collector.contracts import Rejection, Signal
from collector.filter.otlp.attributes import BODY, UNREAD, Name, Signature
from collector.filter.otlp.body import Body, Looks, Refused
from collector.filter.otlp.messages import Messages, messages
from collector.filter.otlp.wire import Malformed, Shape, Survey, may_unfold, survey
from collector.filter.records import MAX_ITEMS

__all__ = ["ProtobufBody"]

_KINDS = {"bool_value": bool, "int_value": int, "double_value": float}
_BODY = (BODY, UNREAD)


class ProtobufBody(Body):
    """A decoded body of ``number`` items.

    Raises ``Refused``, and ``ConfigError`` E201 if protobuf is not installed.
    """

    def __init__(self, signal: Signal, body: bytes) -> None:
        self._signal = signal
        self._resources = _decoded(body, messages(signal)).resources
        scopes = (scope for resource in self._resources for scope in resource.scopes)
        self.number: int = sum(len(items) for scope in scopes for items in self._lists(scope))

    def _lists(self, scope: Any) -> Iterator[Any]:
        """The lists of items in a scope."""
        if self._signal != "metrics":
            yield scope.items
            return
        for metric in scope.metrics:
            kind = metric.WhichOneof("value")
            if kind is not None:
                yield getattr(metric, kind).points

    def scopes(self) -> Iterator[tuple[Any, Any, list[Iterable[Any]]]]:
        """Its scopes, as messages."""
        for each in self._resources:
            for scope in each.scopes:
                yield each.resource, scope.scope, list(self._lists(scope))

    def around(self, outer: Any, looks: Looks) -> Signature:
        """The signature of a resource or a scope."""
        attributes = outer.attributes
        return tuple(_pairs(looks.wanted.intersection(attributes), attributes, looks.names))

    def gathered(
        self, items: Iterable[Any], looks: Looks
    ) -> tuple[dict[Signature, int], dict[Rejection, int]]:
        """The signatures of items, with their numbers."""
        found: dict[Signature, int] = {}
        wanted, looked_for = looks.wanted.intersection, looks.names
        has_bodies = self._signal == "logs"
        for item in items:
            attributes = item.attributes
            names = wanted(attributes)
            pairs = _pairs(names, attributes, looked_for) if names else []
            if has_bodies and item.HasField("body"):
                pairs.append(_BODY)
            signature = tuple(pairs)
            found[signature] = found.get(signature, 0) + 1
        return found, {}


def _pairs(
    names: Iterable[str], attributes: Any, looked_for: Mapping[str, Name]
) -> list[tuple[str, Any]]:
    """What is looked for in attributes. A text is taken at once, as most values are texts."""
    pairs: list[tuple[str, Any]] = []
    for name in names:
        value, sought = attributes[name], looked_for[name]
        text = value.string_value if sought.is_read else None
        pairs.append((name, text or _value(value, sought)))
    return pairs


def _value(value: Any, sought: Name) -> Any:
    """A value; of a list of keys and values, those that are looked for."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "kvlist_value" and sought.below:
        below = value.kvlist_value.values
        names = sought.below.keys() & below
        return dict, tuple((name, _value(below[name], sought.below[name])) for name in names)
    if not sought.is_read:
        return UNREAD
    if which == "string_value":
        return value.string_value
    kind = _KINDS.get(which)
    return (kind, getattr(value, which)) if kind else UNREAD


def _decoded(body: bytes, known: Messages) -> Any:
    """The body as a message, if it is not too large for that."""
    if may_unfold(body, known.tags):
        items = _survey(body, known.items)
        if items.items > MAX_ITEMS or items.is_too_large or _survey(body, known.parts).is_too_large:
            raise Refused("too_large", max(1, items.items))
    with suppress(known.error, ValueError, RecursionError):
        return known.decode(body)
    is_deep = _survey(body, known.parts).is_too_deep
    raise Refused("too_deep" if is_deep else "malformed")


def _survey(body: bytes, shape: Shape) -> Survey:
    with suppress(Malformed):
        return survey(body, shape)
    raise Refused("malformed")
