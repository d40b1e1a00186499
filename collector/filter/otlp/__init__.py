"""Items of OpenTelemetry: records come from attributes, and nothing else.

An event is a log record, a span or a data point of a metric, and its members are its attributes. It
lies in a scope, and this in a resource: these are its context. Both encodings of a body, and the
objects of an SDK, give attributes as a mapping by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from collector.consent import refused
from collector.contracts import CATEGORIES, Granted, Rejection, Signal
from collector.filter.admission import AdmissionBuilder
from collector.filter.judge import Context, sender_context
from collector.filter.otlp.body import BODY, BodyRejected, OtlpBody
from collector.filter.otlp.json_body import JsonBody
from collector.filter.otlp.protobuf_body import ProtobufBody
from collector.filter.plan import ITEMS, Column, Conditions, Keys, Plan
from collector.filter.reader import Reader
from collector.filter.records import MAX_ITEMS
from collector.filter.shape import Shape
from collector.filter.text import MAX_DOCUMENT

RefusedPurposes = frozenset[str] | None
"""The purposes that are refused; ``None`` where there are no choices."""

_Group = tuple[RefusedPurposes, tuple[Any, Any, Iterable[Any]]]
"""A resource, a scope and items of it that refuse the same purposes."""

_NEVER: Keys = ("\x7fnever",)
_CHAT = CATEGORIES.index("chat")


class Items:
    """Judges items for a plan. Safe to use from several threads.

    ``optional`` are the purposes that items may refuse, if they may; ``narrow`` returns the same
    for the purposes that are left.
    """

    def __init__(
        self,
        plan: Plan,
        record: type[msgspec.Struct],
        optional: tuple[str, ...] = (),
        narrow: Callable[[frozenset[str]], Items] | None = None,
    ) -> None:
        self.plan = plan
        self.reader: Reader = Reader(_plan_of_items(plan), record, str)
        self._narrow = narrow
        self._consent = _ItemConsent(plan, optional) if optional else None

    def __repr__(self) -> str:
        return f"<Items of {self.plan.schema_id}>"

    def add_body(
        self, signal: Signal, body: bytes | memoryview, builder: AdmissionBuilder, *, protobuf: bool
    ) -> None:
        """Add the items of one body. Raises ``ConfigError`` E201 if protobuf is needed and not
        installed, and ``InputError`` E416."""
        rejected: tuple[Rejection, int] | None = None
        try:
            decoded = _decode(signal, body, protobuf=protobuf)
            builder.expect(decoded.item_count)
            self._add_items(decoded, self._groups(decoded, body), builder)
        except BodyRejected as error:
            rejected = error.reason, error.times
        if rejected is not None:
            builder.reject_all(*rejected)

    def _add_items(
        self, decoded: OtlpBody, groups: Iterable[_Group], builder: AdmissionBuilder
    ) -> None:
        last: dict[Granted, tuple[Any, Context]] = {}  # resources, by the plan that read them
        for refused_here, (resource, scope, found) in groups:
            items = self.without(refused_here)
            reader, granted, shape = items.reader, items.plan.granted, items.reader.shape
            its_builder = builder.for_plan(items.plan)
            if granted not in last or last[granted][0] is not resource:
                members = decoded.outer_members(resource, shape)
                outermost = sender_context(items.plan, builder.sender)
                last[granted] = resource, items.within(members, outermost)
            around = items.within(decoded.outer_members(scope, shape), last[granted][1])
            outcome = its_builder.records, its_builder.notes, its_builder.rejected
            events = _events(decoded, found, reader, its_builder.rejected)
            reader.judge("records", ITEMS)(events, *outcome, around)

    def without(self, refused_purposes: RefusedPurposes) -> Items:
        """Return what judges items that refuse these purposes."""
        if refused_purposes is None or self._narrow is None:
            return self
        return self._narrow(refused_purposes)

    def choosing(self, *members: dict[Any, Any]) -> Items:
        """Return what judges items with these attributes: its own, its scope's, its resource's."""
        return self if self._consent is None else self.without(self._consent.refused_in(*members))

    def within(self, members: dict[Any, Any], around: Context) -> Context:
        """Return the context of items in a resource or a scope."""
        return self.reader.surround(self.reader.of_object(members), around, None)

    def _groups(self, decoded: OtlpBody, body: bytes | memoryview) -> Iterator[_Group]:
        """Yield each scope, divided by the purposes that its items refuse: consent is read before
        anything else."""
        consent = self._consent
        if consent is None or not consent.may_occur_in(body):
            yield from ((None, scope) for scope in decoded.scopes())
            return
        for resource, scope, items in decoded.scopes():
            outer = [decoded.outer_members(each, consent.shape) for each in (scope, resource)]
            groups: dict[RefusedPurposes, list[Any]] = {}
            for item in items:
                own = decoded.item_members(item, consent.shape) or {}
                groups.setdefault(consent.refused_in(own, *outer), []).append(item)
            yield from ((each, (resource, scope, group)) for each, group in groups.items())


def _decode(signal: Signal, body: bytes | memoryview, *, protobuf: bool) -> OtlpBody:
    if len(body) > MAX_DOCUMENT:
        raise BodyRejected("too_large")
    decoded = ProtobufBody(signal, bytes(body)) if protobuf else JsonBody(signal, body)
    if decoded.item_count > MAX_ITEMS:
        raise BodyRejected("too_large", decoded.item_count)
    return decoded


def _events(
    decoded: OtlpBody, items: Iterable[Any], reader: Reader, rejected: list[Rejection]
) -> Iterator[Any]:
    """Yield items as events; elements that are none are counted."""
    for item in items:
        members = decoded.item_members(item, reader.shape)
        if members is None:
            rejected.append("not_an_object")
        else:
            yield reader.of_object(members)


class _ItemConsent:
    """Reads the choices of items: purposes with true or false, by the paths of a plan.

    Any other value in their place, an array included, is unreadable there, and refuses every
    optional purpose. ``shape`` has the members on the way to choices.
    """

    def __init__(self, plan: Plan, optional: tuple[str, ...]) -> None:
        self._optional = optional
        self._paths = [path for path in plan.choices if not _has_element(path)]
        self.shape: Shape = Shape(is_list=False)
        for path in self._paths:
            for purpose in optional:
                self.shape.at((*path, purpose)).is_compared = True
        self.shape.finish()

    def may_occur_in(self, body: bytes | memoryview) -> bool:
        """Return whether a body may hold choices: a quick test, to which any escape is a yes."""
        text = bytes(body)
        return b"\\u" in text or any(str(name).encode() in text for name in self.shape.members)

    def refused_in(self, *members: dict[Any, Any]) -> RefusedPurposes:
        """Return what an item, its scope and its resource refuse together."""
        found = [choices for each in members for choices in self._choices_in(each)]
        each_refused = [
            refused(self._optional, choices if type(choices) is dict else False)
            for choices in found
        ]
        return frozenset().union(*each_refused) if each_refused else None

    def _choices_in(self, members: dict[Any, Any]) -> list[Any]:
        """Return the first choices in attributes, if there are any."""
        for path in self._paths:
            value: Any = members
            for key in path:
                value = _member(value, key)
            if value is not None:
                return [value]
        return []


def _member(value: Any, key: str | int) -> Any:
    """Return a member of an object; comparing a key that is no exact text would call its class."""
    if type(value) is not dict:
        return None
    return next((one for name, one in value.items() if type(name) is str and name == key), None)


def _plan_of_items(plan: Plan) -> Plan:
    """Return the plan without what is never read of items, which have no lists."""
    return replace(
        plan,
        columns=tuple(map(_column_of_items, plan.columns)),
        content=(*plan.content, (BODY, _CHAT)),
        records=(),
        selections=(),
        user_agent=tuple(path for path in plan.user_agent if not _has_element(path)),
        item_selections=tuple(map(_without_elements, plan.item_selections)),
    )


def _column_of_items(column: Column) -> Column:
    ways = zip(column.paths, column.written, column.conditions, strict=True)
    kept = [way for way in ways if not _has_element(way[0])]
    return replace(
        column,
        paths=tuple(path for path, _, _ in kept),
        written=tuple(written for _, written, _ in kept),
        conditions=tuple(_without_elements(conditions) for _, _, conditions in kept),
    )


def _without_elements(conditions: Conditions) -> Conditions:
    return tuple((_NEVER if _has_element(path) else path, one) for path, one in conditions)


def _has_element(path: Keys) -> bool:
    return any(type(key) is int for key in path)
