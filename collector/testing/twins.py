"""Pairs of events that agree on the admitted values, and on nothing else if it can be helped.

A twin is built from an event: what the schema does not list is thrown away and other members are
put in its place; a value that its field refuses becomes another one that it refuses; a value that
is admitted may be spelled in another way that means the same; the order of members changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from collector.consent import refused
from collector.filter.derive import Agents
from collector.schema import Schema
from collector.schema.kinds import Circumstances
from collector.testing.mappings import Event, place
from collector.testing.paths import Path, choices_of, paths_of, reads_lists, ways
from collector.testing.values import Values, agents, choices, junk, values

__all__ = ["twins"]


@dataclass(frozen=True, slots=True)
class _Reader:
    """A field that looks at a member, or whoever looks there for choices."""

    wire: frozenset[type]
    canonical: Callable[[Any], object]
    spellings: Values

    def outcome(self, value: Any) -> object:
        """What becomes of a value; refused is refused, for whatever reason."""
        result = self.canonical(value) if type(value) in self.wire else None
        return type(result), result


@dataclass(slots=True)
class _Listed:
    """A member that the schema lists: as a value, as the way to one, or as both."""

    members: dict[str | int, _Listed] = field(default_factory=dict)
    readers: list[_Reader] = field(default_factory=list)
    holds_records: bool = False

    def at(self, path: Path) -> _Listed:
        node = self
        for key in path:
            node = node.members.setdefault(key, _Listed())
        return node


def _listed(schema: Schema, around: Circumstances) -> _Listed:
    root = _Listed()
    for name, each in schema.fields.items():
        reader = _Reader(each.wire, each.canonical(around), values(each, around.now()))
        for path in paths_of(schema, name):
            root.at(path).readers.append(reader)
    derived = Agents([name for name, each in schema.fields.items() if each.derive])
    agent = _Reader(frozenset({str}), derived.__getitem__, agents())
    for source in schema.user_agent_paths:
        for path in ways(source):
            root.at(path).readers.append(agent)
    said = _Reader(
        frozenset({dict, list}),
        lambda value: _heard(schema.optional, value),
        choices(schema.optional),
    )
    for source in choices_of(schema):
        for path in ways(source):
            root.at(path).readers.append(said)
    return root


def _heard(optional: tuple[str, ...], value: Any) -> object:
    """What is refused; all that can be is as good as what cannot be read."""
    found = refused(optional, value)
    return None if found == set(optional) else found


def twins(schema: Schema, around: Circumstances) -> st.SearchStrategy[tuple[Any, Any]]:
    """Two events of plain JSON values that are to give the same record, or the same records.

    They are dictionaries, or also lists if the schema looks into lists.
    """
    element, document = _listed(schema, around), _listed(schema, around)
    for way in schema.records or ():
        for path in ways(way.removesuffix(".*")) if way != "." else ():
            document.at(path).holds_records = True
    return _pair(
        place(schema, around.now()),
        document,
        element,
        _keys(schema),
        reads_lists=reads_lists(schema),
    )


@st.composite
def _pair(
    draw: st.DrawFn,
    events: Values,
    document: _Listed,
    element: _Listed,
    keys: st.SearchStrategy[str],
    *,
    reads_lists: bool,
) -> tuple[Any, Any]:
    event = draw(events)
    twin = _Twin(draw, element, reads_lists, keys)
    return event, twin.event(event, document)


def _keys(schema: Schema) -> st.SearchStrategy[str]:
    return st.sampled_from(["unlisted", "é", *schema.content_names]) | st.text(max_size=4)


@dataclass(frozen=True, slots=True)
class _Twin:
    """Builds one twin."""

    draw: st.DrawFn
    element: _Listed
    reads_lists: bool
    keys: st.SearchStrategy[str]

    def event(self, event: Any, listed: _Listed) -> Any:
        """The event if it is one, otherwise something else that is none."""
        if type(event) is dict:
            return self.object(event, listed)
        if type(event) is not list or not self.reads_lists:
            return self.draw(_NO_EVENT if self.reads_lists else _NO_OBJECT)
        elements = [
            self.member(value, listed.members[index])
            if index in listed.members
            else self.draw(junk())
            for index, value in enumerate(event)
        ]
        return elements + self.draw(st.lists(junk(), max_size=2)) * self._is_long(event, listed)

    @staticmethod
    def _is_long(event: list[Any], listed: _Listed) -> bool:
        return all(type(key) is not int or key < len(event) for key in listed.members)

    def object(self, event: Event, listed: _Listed) -> Event:
        """The listed members, changed where that changes nothing, and other unlisted ones."""
        members = [
            (key, self.member(value, listed.members[key]))
            for key, value in event.items()
            if key in listed.members
        ]
        unlisted = self.draw(st.dictionaries(self.keys, junk(), max_size=3))
        members += [item for item in unlisted.items() if item[0] not in listed.members]
        return dict(self.draw(st.permutations(members)))

    def member(self, value: Any, listed: _Listed) -> Any:
        """A listed member."""
        if value is None:
            return None
        if listed.holds_records:
            return self.records(value, listed)
        if type(value) is dict and listed.members:
            return self.object(value, listed)
        if not listed.readers:
            return self.draw(_NO_EVENT)
        other = self.draw(st.one_of(junk(), *(reader.spellings for reader in listed.readers)))
        is_way = type(other) is dict and listed.members
        same = all(reader.outcome(other) == reader.outcome(value) for reader in listed.readers)
        return other if same and other is not None and not is_way else value

    def records(self, value: Any, listed: _Listed) -> Any:
        """What a way to records leads to; the keys of an object mean nothing."""
        if type(value) is list:
            return [self.event(each, self.element) for each in value]
        if type(value) is not dict or listed.members:
            return value
        each = [self.event(v, self.element) if type(v) is dict else v for v in value.values()]
        return {f"{number}{self.draw(self.keys)}": v for number, v in enumerate(each)}


_NO_OBJECT = junk().filter(lambda value: type(value) is not dict)
_NO_EVENT = junk().filter(lambda value: type(value) not in (dict, list))
