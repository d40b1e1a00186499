"""Pairs of events that agree on the admitted values, and on nothing else if it can be helped.

A twin is built from an event: what the schema does not list is thrown away and other members are
put in its place; a value that its field refuses becomes another one that it refuses; a value that
is admitted may be spelled in another way that means the same; the order of members changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from collector.schema import Schema
from collector.schema.kinds import Canonical, Circumstances
from collector.testing.mappings import Event, paths_of, place
from collector.testing.values import Values, junk, values

__all__ = ["twins"]


@dataclass(frozen=True, slots=True)
class _Reader:
    """A field that looks at a member."""

    wire: frozenset[type]
    canonical: Canonical
    spellings: Values

    def outcome(self, value: Any) -> object:
        """What becomes of a value; refused is refused, for whatever reason."""
        result = self.canonical(value) if type(value) in self.wire else None
        return type(result), result


@dataclass(slots=True)
class _Listed:
    """A member that the schema lists: as a value, as the way to one, or as both."""

    members: dict[str, _Listed] = field(default_factory=dict)
    readers: list[_Reader] = field(default_factory=list)
    is_list: bool = False

    def at(self, path: tuple[str, ...]) -> _Listed:
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
    return root


def twins(schema: Schema, around: Circumstances) -> st.SearchStrategy[tuple[Event, Event]]:
    """Two events of plain JSON values that are to give the same record, or the same records."""
    element, document = _listed(schema, around), _listed(schema, around)
    if schema.records is not None:
        for path in (tuple(schema.records.split(".")), (schema.records,)):
            document.at(path).is_list = True
    return _pair(place(schema, around.now()), document, element, _keys(schema))


@st.composite
def _pair(
    draw: st.DrawFn,
    events: st.SearchStrategy[Event],
    document: _Listed,
    element: _Listed,
    keys: st.SearchStrategy[str],
) -> tuple[Event, Event]:
    event = draw(events)
    return event, _Twin(draw, element, keys).object(event, document)


def _keys(schema: Schema) -> st.SearchStrategy[str]:
    return st.sampled_from(["unlisted", "é", *schema.content_names]) | st.text(max_size=4)


@dataclass(frozen=True, slots=True)
class _Twin:
    """Builds one twin."""

    draw: st.DrawFn
    element: _Listed
    keys: st.SearchStrategy[str]

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
        if listed.is_list:
            return [self.record(each) for each in value] if type(value) is list else value
        if type(value) is dict and listed.members:
            return self.object(value, listed)
        if not listed.readers:
            return self.draw(_NO_OBJECT)
        other = self.draw(st.one_of(junk(), *(reader.spellings for reader in listed.readers)))
        is_way = type(other) is dict and listed.members
        same = all(reader.outcome(other) == reader.outcome(value) for reader in listed.readers)
        return other if same and other is not None and not is_way else value

    def record(self, value: Any) -> Any:
        """An element of the list of records."""
        return self.object(value, self.element) if type(value) is dict else self.draw(_NO_OBJECT)


_NO_OBJECT = junk().filter(lambda value: type(value) is not dict)
