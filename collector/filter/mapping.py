"""Events that are Python dictionaries already: a fast path and a slow one.

Both keep one rule. Only exact built-in types count, in values and in keys: a subclass could
misreport itself, and ``True`` is not ``1``. No method of a foreign class is ever called.

The fast path is one generated function for one plan, which takes one event. ``msgspec.convert``
takes the members that the plan reads out of a dictionary, unchanged: it compares only keys that are
exact texts, in C, and calls no method of a value. It would also accept types that only resemble a
dictionary, so the type of each object is checked before. The slow path, ``MappingReader``, reads
all that is rare: keys of other types, records in lists, sender values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, Drop
from collector.filter.admission import Admission
from collector.filter.code import Code, Conflict, Node, nodes_at, plan_tree, struct_type
from collector.filter.compile import MARKS, Column, Conditions, EventValues, Keys, Plan
from collector.filter.tolerant import FAILURES

AdmitMapping = Callable[[dict[Any, Any]], Admission | None]
"""Admits a mapping that is the only event of its call; ``None`` leaves it to the slow path."""

_Event = dict[Any, Any]
_List = list[Any] | tuple[Any, ...]
_Slot = tuple[int, str | int]
"""A member of an object, which is given by its number."""

_Checks = list[tuple[_Slot, Callable[[object], bool]]]
"""Members, and the function that says whether one has a listed value."""

_WRONG_TYPE = MARKS["wrong_type"]
_TEXT_ONLY = frozenset([id(str)])
_NOTHING: _Event = {}
_HEAD = """\
    try:
        e = convert(event, kind)
"""


def is_list(value: Any) -> bool:
    """Return whether a value is what JSON has lists for."""
    return type(value) is list or type(value) is tuple


class MappingReader:
    """Reads mappings for one plan. Every object on the way to a field is visited once."""

    def __init__(self, plan: Plan) -> None:
        self._numbers: dict[Keys, int] = {(): 0}
        self._objects: list[tuple[_Slot, int]] = []
        self._lengths = _lengths(plan.paths)
        self._columns = [
            (column, [self._slot(path) for path in column.paths], self._checks(column))
            for column in plan.columns
        ]
        self._agent = [self._slot(path) for path in plan.user_agent]
        self._records = [(each, [self._slot(path) for path in each.paths]) for each in plan.records]
        self._selections = [self._members(each.conditions) for each in plan.selections]
        self._content = plan.content
        self._reads_lists = plan.reads_lists

    def _slot(self, path: Keys) -> _Slot:
        prefix, key = path[:-1], path[-1]
        if prefix not in self._numbers:
            slot = self._slot(prefix)
            self._objects.append((slot, self._lengths.get(prefix, 0)))
            self._numbers[prefix] = len(self._objects)
        return self._numbers[prefix], key

    def _checks(self, column: Column) -> list[_Checks]:
        """Return the conditions of each path; none at all if no path has any."""
        if not any(column.conditions):
            return []
        return [self._members(conditions) for conditions in column.conditions]

    def _members(self, conditions: Conditions) -> _Checks:
        return [(self._slot(path), listed.has) for path, listed in conditions]

    def reads(self, event: Any) -> bool:
        """Return whether this may be an event: an object, or a list if the plan reads lists."""
        return type(event) is dict or (self._reads_lists and is_list(event))

    def read(self, event: _Event | _List) -> EventValues:
        """Read the values of an event."""
        objects = [_as_object(event, self._lengths.get((), 0))]
        for (parent, key), length in self._objects:
            objects.append(_as_object(objects[parent].get(key), length))
        values = [
            _value(column, _first_that_counts(objects, slots, checks))
            if checks
            else _value(column, _first(objects, slots))
            for column, slots, checks in self._columns
        ]
        get = objects[0].get
        content = frozenset(category for name, category in self._content if get(name) is not None)
        agent = _first(objects, self._agent)
        found = ((each, _first(objects, slots)) for each, slots in self._records)
        records = [(each, value) for each, value in found if value is not None or not each.paths]
        selected = tuple(_all_hold(objects, checks) for checks in self._selections)
        return EventValues(values, content, agent, records, selected)


def _lengths(paths: Iterable[Keys]) -> dict[Keys, int]:
    """Return how many elements are read, by the path of their list."""
    lengths: dict[Keys, int] = {}
    for path in paths:
        for end, key in enumerate(path):
            if isinstance(key, int):
                lengths[path[:end]] = max(lengths.get(path[:end], 0), key + 1)
    return lengths


def _as_object(value: Any, length: int) -> _Event:
    """Return the members of an object, or the first elements of a list as members under
    numbers."""
    if type(value) is dict:
        return _plain(value)
    return dict(enumerate(value[:length])) if length and is_list(value) else _NOTHING


def object_members(event: _Event) -> list[_Event]:
    """Return the members that are objects."""
    return [value for value in _plain(event).values() if type(value) is dict]


def _plain(event: _Event) -> _Event:
    """Return the members whose keys are exact texts; comparing another key would call its class."""
    if _TEXT_ONLY.issuperset(map(id, map(type, event))):
        return event
    return {key: value for key, value in list(event.items()) if type(key) is str}


def _first(objects: list[_Event], slots: list[_Slot]) -> Any:
    """Return the first value that is present, or ``None``."""
    for number, key in slots:
        value = objects[number].get(key)
        if value is not None:
            return value
    return None


def _first_that_counts(objects: list[_Event], slots: list[_Slot], checks: list[_Checks]) -> Any:
    """Return the first value that is present and whose conditions hold, or ``None``."""
    for (number, key), conditions in zip(slots, checks, strict=True):
        value = objects[number].get(key)
        if value is not None and _all_hold(objects, conditions):
            return value
    return None


def _all_hold(objects: list[_Event], checks: _Checks) -> bool:
    """Return whether each of these members has one of its values."""
    return all(has(objects[at].get(key)) for (at, key), has in checks)


def _value(column: Column, value: Any) -> Any:
    if value is None:
        return None
    if column.withheld:
        return MARKS[column.withheld]
    kind = type(value)  # one of a foreign metaclass could be asked for its hash
    return value if type(kind) is type and kind in column.wire else _WRONG_TYPE


class SingleEvent(Code):
    """The outcome of a function for one event, which returns its ``Admission``."""

    @property
    def more_arguments(self) -> str:
        """The last arguments of an admission."""
        return "" if self.plan.granted is None else ", 0, granted"

    def drop(self, column: Column, reason: Drop) -> str:
        return f"drops += {self.drop_of(column, reason)}"

    def drop_of(self, column: Column, reason: Drop) -> str:
        """Return the expression of a dropped field."""
        return self.bind("d", ((column.name, reason),))

    def count_content(self, category: int) -> str:
        return f"content += {self.bind('t', (CATEGORIES[category],))}"

    def reject(self, reason: str) -> str:
        return f"return Admission([], b'', None, ({reason}, content, drops){self.more_arguments})"

    def admit(self, values: str) -> str:
        encoded, verdict = "encode(r) + b'\\n'", "(None, content, drops)"
        admission = f"Admission([r], {encoded}, None, {verdict}{self.more_arguments})"
        return f"r = record({values}); return {admission}"

    def bind_outcome(self, record: type[msgspec.Struct]) -> None:
        """Bind the objects that the outcome is made with."""
        self.names.update(
            Admission=Admission,
            FAILURES=FAILURES,
            encode=msgspec.json.Encoder().encode,
            granted=self.plan.granted,
            record=record,
        )


class _Mapping(SingleEvent):
    """The lines for a mapping: first all of its objects are read, then its values are evaluated."""

    depth = 2
    defers_on_consent = False

    def read(self, root: Node) -> Iterable[tuple[Node, str]]:
        """Read first all that may fail, so that no exception of a kind is caught with it."""
        paths = self.plan.choices if self.defers_on_consent else ()
        choices = {id(node) for node in nodes_at(root, paths)}
        found = list(self._below(root, "e"))
        self.depth = 1
        self.add("except FAILURES:")  # a key is no plain text
        self.add("return None", 1)
        if given := [self.is_present(read) for node, read in found if id(node) in choices]:
            self.add(f"if {' or '.join(given)}:")
            self.add("return None", 1)
        self.add("content = drops = ()")
        return found

    def _below(self, node: Node, variable: str) -> Iterator[tuple[Node, str]]:
        for number, member in enumerate(node.members.values()):
            expression = f"{variable}.{member.attribute}"
            if member.members:
                kind = struct_type(member)
                type_, empty = self.bind("k", kind), self.bind("n", kind())
                inner = f"{variable}_{number}"
                self.add(f"{inner} = {expression}")
                is_kind = f"type({inner}) is dict"
                if member.is_list:
                    is_kind = f"type({inner}) is list or type({inner}) is tuple"
                found = f"convert({inner}, {type_}) if {is_kind} else {empty}"
                self.add(f"{inner}_ = {found}")
                expression = inner
                yield from self._below(member, f"{inner}_")
            yield member, expression

    def is_present(self, expression: str) -> str:
        return f"{expression} is not None"

    def write_content(self, category: int, tripwires: Sequence[str]) -> None:
        self.add(f"if {' or '.join(map(self.is_present, tripwires))}:")
        self.add(self.count_content(category), 1)


def fast_mapping(
    plan: Plan, record: type[msgspec.Struct], *, defers_on_consent: bool = False
) -> AdmitMapping:
    """Generate the function.

    If it ``defers_on_consent``, it leaves a mapping that carries choices to the slow path too.
    """
    if plan.records:
        return unsupported
    root = plan_tree(plan, plan.selection)
    code = _Mapping(plan, plan.selection)
    code.defers_on_consent = defers_on_consent
    for path in plan.choices if defers_on_consent else ():
        root.at(path)
    code.bind_outcome(record)
    try:
        kind = struct_type(root, [name for name, _ in plan.content])
        code.names |= {"convert": msgspec.convert, "kind": kind}
        code.write_event(root)
    except Conflict:
        return unsupported
    admit_mapping: AdmitMapping = code.function("admit_mapping", "event", _HEAD)
    return admit_mapping


def unsupported(_event: Any) -> Admission | None:
    """Leave every event to the slow path."""
    return None
