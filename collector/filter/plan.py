"""Compile a schema, for a set of granted purposes and a day, into the plan that every path follows.

Column order is record order. One function per plan decides what an event becomes (``judge``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from collector.contracts import CATEGORIES, DROPS, Drop, Granted, Scalar
from collector.filter.derive import Agents
from collector.schema.conditions import ClosedList
from collector.schema.kinds import Canonical, Circumstances, FieldBase
from collector.schema.model import Schema
from collector.schema.scalars import (
    Source,
    beside,
    condition_of,
    is_exact,
    keys,
    levels,
    path_of,
    written_source,
)

Keys = tuple[str | int, ...]
"""The keys on the way to a value; a number is an element of a list."""

Conditions = tuple[tuple[Keys, ClosedList], ...]
"""For each member, its keys and the values that satisfy the condition."""

_MAX_REMEMBERED = 4096


ITEMS = -1
"""Stands for the number of a selection: the conditions of items of OpenTelemetry."""


class Memo:
    """Caches canonical forms of low-cardinality texts: ``known`` holds them, calls add to it.

    Refused values are never cached, so that a client cannot fill the memo with them; each is
    evaluated and counted. Values of other types are refused.
    """

    __slots__ = ("_canonical", "known")

    def __init__(self, canonical: Canonical) -> None:
        self._canonical = canonical
        self.known: dict[Any, Scalar] = {}

    def __repr__(self) -> str:
        return f"<Memo of {len(self.known)}>"

    def __call__(self, value: Any) -> Scalar | None:
        if type(value) is not str:
            return None
        result = self.known.get(value)
        if result is None:
            result = self._canonical(value)
            if result is not None:
                if len(self.known) >= _MAX_REMEMBERED:
                    self.known.clear()
                self.known[value] = result
        return result


def drop_code(column: int, reason: Drop) -> int:
    """Encode a dropped field as one number, which the hot path collects."""
    return column * len(DROPS) + DROPS.index(reason)


def content_code(plan: Plan, category: int) -> int:
    """Encode a category of content in the same way, beyond all dropped fields."""
    return len(plan.columns) * len(DROPS) + category


@dataclass(frozen=True, slots=True)
class Column:
    """One field, ready to be filtered.

    ``field`` is the schema's definition. ``paths`` are the nested paths, and their flat dotted
    forms as single keys; ``written`` has the schema's spelling of each, and ``conditions`` those
    under which it counts. A ``withheld`` column is never decoded; its presence is counted under
    that reason. ``derived`` is its index in the values derived from a user agent; ``peer`` says
    that the sender's address may fill it.
    """

    index: int
    name: str
    field: FieldBase
    paths: tuple[Keys, ...]
    written: tuple[str, ...]
    conditions: tuple[Conditions, ...]
    wire: frozenset[type]
    accept: Canonical
    memo: Memo | None
    required: bool
    withheld: Drop | None
    derived: int | None
    peer: bool
    codes: dict[Drop, int]


class SenderInfo(NamedTuple):
    """Sender address and user agent of a request, as unchecked text.

    If a request has a single event, they fill fields for which the event has no value.
    """

    peer: str | None
    agent: str | None


class RecordSelection(NamedTuple):
    """The conditions that a record must meet, and the path to it in the schema's spelling."""

    conditions: Conditions
    written: str


class RecordPath(NamedTuple):
    """Where the records of an event are.

    ``paths`` lead to the list that holds them, or to the object whose ``members`` they are. Without
    ``paths``, the event itself is the record, or with ``members`` a map of them. With ``below``,
    they are further down, in each element of the list. ``selection`` is the number of the selection
    that they must meet, if any.
    """

    paths: tuple[Keys, ...]
    members: bool
    below: RecordPath | None = None
    selection: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Columns in schema order, content names, and where records, user agent and choices are.

    Without ``records``, each event is a record, which must meet the ``selection`` of that number.
    With ``is_map``, the input is a map whose members are the events. Items of OpenTelemetry must
    meet one of ``item_selections``, if there are any. ``user_agent`` is empty if nothing is derived
    from it. ``choices`` are the paths of the consent that an event carries. Whether events may be
    lists (``reads_lists``) does not depend on the granted purposes. ``uses_sender`` says whether
    data about the sender of a request is used.
    """

    schema_id: str
    columns: tuple[Column, ...]
    content: tuple[tuple[str, int], ...]
    records: tuple[RecordPath, ...]
    user_agent: tuple[Keys, ...]
    agents: Agents
    reads_lists: bool
    uses_sender: bool
    choices: tuple[Keys, ...] = ()
    granted: Granted = None
    selections: tuple[RecordSelection, ...] = ()
    selection: int | None = None
    item_selections: tuple[Conditions, ...] = ()
    is_map: bool = False

    @property
    def paths(self) -> tuple[Keys, ...]:
        """Every path that is read, except those of choices."""
        read = [path for column in self.columns for path in column.paths]
        read += [path for column in self.columns for each in column.conditions for path, _ in each]
        read += [path for each in self.selections for path, _ in each.conditions]
        records = [path for each in self.records for path in each.paths]
        return (*read, *records, *self.user_agent)

    @property
    def selected(self) -> tuple[Conditions, ...]:
        """The conditions of all selections; without any, those of items."""
        return tuple(each.conditions for each in self.selections) or self.item_selections

    def selecting(self, selection: int | None) -> tuple[Conditions, ...]:
        """Return the alternative conditions of a selection by its number, or those of ``ITEMS``;
        none without a number."""
        if selection == ITEMS:
            return self.item_selections
        return () if selection is None else (self.selections[selection].conditions,)

    @property
    def names(self) -> tuple[str, ...]:
        """The field names, in schema order."""
        return tuple(column.name for column in self.columns)


class _Place(NamedTuple):
    """A path, and the conditions under which it counts."""

    path: Keys
    conditions: Conditions


def _places(sources: Iterable[Source]) -> dict[_Place, str]:
    """Return each path, first nested, then as one flat key (of the event or of a list element),
    with the schema's spelling. An exact path has no flat form."""
    found: dict[_Place, str] = {}
    for source in sources:
        written, when = path_of(source), condition_of(source)
        nested = keys(written)
        members = [(keys(beside(written, name)), listed) for name, listed in when]
        found.setdefault(_Place(nested, tuple(members)), written)
        if not is_exact(written):
            flat = tuple((_flat(path), listed) for path, listed in members)
            found.setdefault(_Place(_flat(nested), flat), written)
    return found


def _flat(path: Keys) -> Keys:
    """Return a path as one flat key, of the event or of a list element."""
    start = int(type(path[0]) is int)
    return (*path[:start], ".".join(map(str, path[start:]))) if path[start:] else path


def _paths(sources: Iterable[str]) -> tuple[Keys, ...]:
    """Return the paths of sources without conditions."""
    return tuple(place.path for place in _places(sources))


def _record_path(way: str, selection: int | None) -> RecordPath:
    if way in (".", "*"):
        return RecordPath((), members=way == "*", selection=selection)
    *above, last = levels(way)
    path = RecordPath(_paths([last.removesuffix(".*")]), last.endswith(".*"))
    for level in reversed(above):
        path = RecordPath(_paths([level]), members=False, below=path)
    return path._replace(selection=selection)


def _record_paths(schema: Schema) -> tuple[tuple[RecordPath, ...], tuple[RecordSelection, ...]]:
    """Return the paths to records, and their selections."""
    paths: list[RecordPath] = []
    selections: list[RecordSelection] = []
    for way in schema.records or ():
        number = None
        if when := condition_of(way):
            number = len(selections)
            conditions = tuple((keys(beside("", name)), listed) for name, listed in when)
            selections.append(RecordSelection(conditions, written_source(way)))
        paths.append(_record_path(path_of(way), number))
    return tuple(paths), tuple(selections)


def _item_selections(
    records: Sequence[RecordPath], selections: Sequence[RecordSelection]
) -> tuple[Conditions, ...]:
    """Return the alternative conditions for an item of OpenTelemetry: the one of events that are
    records themselves, if the schema has it, else those of all paths to records."""
    itself = next((each for each in records if not each.paths), None)
    numbers = [each.selection for each in (records if itself is None else (itself,))]
    found = tuple(selections[number].conditions for number in numbers if number is not None)
    return found if len(found) == len(numbers) else ()


def compile_plan(
    schema: Schema, granted: Granted, today: date, circumstances: Circumstances
) -> Plan:
    """Compile the plan for the granted purposes (``None``: all) on a day."""
    derived = [
        name
        for name, field in schema.fields.items()
        if field.derive and not _withheld(field, granted, today)
    ]
    columns = tuple(_columns(schema, granted, today, circumstances, derived))
    content = {name: CATEGORIES.index(category) for name, category in schema.content_names.items()}
    agent = _paths(schema.user_agent_paths)
    choices = _paths([schema.consent] if schema.consent else ())
    records, selections = _record_paths(schema)
    reads_lists = _reads_lists(columns, records, agent)
    items = _item_selections(records, selections)
    selection, is_map = None, False
    if records and not records[0].paths:  # the event is always present, so it is a record
        _, is_map, _, selection = records[0]
        records = ()
    return Plan(
        schema.id,
        columns,
        tuple(content.items()),
        records=records,
        user_agent=agent if derived else (),
        agents=Agents(derived),
        reads_lists=reads_lists,
        uses_sender=bool(derived) or any(column.peer for column in columns),
        choices=choices,
        granted=granted,
        selections=selections,
        selection=selection,
        item_selections=items,
        is_map=is_map,
    )


def _columns(
    schema: Schema,
    granted: Granted,
    today: date,
    circumstances: Circumstances,
    derived: Sequence[str],
) -> Iterator[Column]:
    for index, (name, field) in enumerate(schema.fields.items()):
        withheld = _withheld(field, granted, today)
        canonical = field.canonical(circumstances)
        memo = Memo(canonical) if field.repeats else None
        places = _places(field.places(name))
        yield Column(
            index=index,
            name=name,
            field=field,
            paths=tuple(place.path for place in places),
            written=tuple(places.values()),
            conditions=tuple(place.conditions for place in places),
            wire=field.reads(),
            accept=canonical if memo is None else memo,
            memo=memo,
            required=field.required,
            withheld=withheld,
            derived=derived.index(name) if name in derived else None,
            peer=field.source == "peer" and not withheld,
            codes={reason: drop_code(index, reason) for reason in DROPS},
        )


def _reads_lists(
    columns: Iterable[Column], records: Iterable[RecordPath], agent: tuple[Keys, ...]
) -> bool:
    """Return whether some path begins in a list. Paths of choices do not count."""
    read = [column.paths for column in columns] + [each.paths for each in records]
    return any(type(path[0]) is int for paths in (*read, agent) for path in paths)


def _withheld(field: FieldBase, granted: Granted, today: date) -> Drop | None:
    if field.expires is not None and today >= field.expires:
        return "expired"
    if granted is not None and not set(granted) & set(field.purposes):
        return "purpose_refused"
    return None


def next_expiry(schema: Schema, today: date) -> date | None:
    """Return the next day on which the plan must be compiled again, if any."""
    days = [field.expires for field in schema.fields.values() if field.expires]
    return min((day for day in days if day > today), default=None)
