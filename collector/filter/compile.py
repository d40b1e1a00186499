"""A schema, compiled for a set of granted purposes and a day: the plan that every path follows.

The fast path (``generate``), the tolerant path and the mapping path all read the same columns, so
that an event means the same to each of them. Column order is record order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from collector.contracts import CATEGORIES, DROPS, Drop, Granted, Scalar
from collector.filter.derive import Agents
from collector.schema.kinds import Canonical, Circumstances, FieldBase
from collector.schema.model import Schema
from collector.schema.terms import keys

__all__ = [
    "MARKS",
    "Column",
    "Fills",
    "Found",
    "Keys",
    "Mark",
    "Memo",
    "Plan",
    "Way",
    "compile_plan",
    "drop_code",
    "next_expiry",
]

Keys = tuple[str | int, ...]
"""The keys on the way to a value; a number is an element of an event that is a list."""

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """What stands in for a value that is there but is not looked at any further: why it is dropped.

    Of the wrong JSON type, or of the right one but no text or number that any kind accepts, or not
    even decoded, because its column is withheld.
    """

    drop: Drop


MARKS: dict[Drop, Mark] = {reason: Mark(reason) for reason in DROPS}
"""One mark for each reason."""


class Memo:
    """Remembers canonical forms of low-cardinality texts: ``known`` holds them, calling it asks.

    Refused values are never remembered, so a client cannot fill it with them, and each one is
    looked at and counted. Values of other types are refused.
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
                if len(self.known) >= _MOST_REMEMBERED:
                    self.known.clear()
                self.known[value] = result
        return result


def drop_code(column: int, reason: Drop) -> int:
    """A dropped field as one number, which is what the hot path collects."""
    return column * len(DROPS) + DROPS.index(reason)


@dataclass(frozen=True, slots=True)
class Column:
    """One field, ready to be filtered.

    ``field`` is what the schema says of it. ``paths`` are nested ones, and the flat dotted form as
    a single key. A column that is ``withheld`` is never decoded; its presence is counted under that
    reason. ``derived`` is its place in what a user agent says; ``peer`` says that the sender's
    address may fill it.
    """

    index: int
    name: str
    field: FieldBase
    paths: tuple[Keys, ...]
    wire: frozenset[type]
    accept: Canonical
    memo: Memo | None
    required: bool
    withheld: Drop | None
    derived: int | None
    peer: bool
    codes: dict[Drop, int]

    def judge(self, value: Any) -> tuple[Scalar | None, Drop | None]:
        """The canonical form of a value or mark, or why the field is dropped."""
        if value is None:
            return None, None
        if type(value) is Mark:
            return None, value.drop
        result = self.accept(value)
        return result, "invalid_value" if result is None else None


class Fills(NamedTuple):
    """What a request says of its sender, for its only event where that says nothing itself: the
    address it came from, and what it calls itself. Both are unchecked text."""

    peer: str | None
    agent: str | None


class Way(NamedTuple):
    """A way from an event to its records: to the list that holds them, to the object whose
    ``members`` they are, or, without ``paths``, to the event itself."""

    paths: tuple[Keys, ...]
    members: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to look for: columns in schema order, content names, where records lie, and where the
    user agent is, if anything is derived from it; and where a person's ``choices`` are. Whether
    events may be lists does not depend on what is granted."""

    schema_id: str
    columns: tuple[Column, ...]
    content: tuple[tuple[str, int], ...]
    records: tuple[Way, ...]
    user_agent: tuple[Keys, ...]
    agents: Agents
    reads_lists: bool
    required: tuple[int, ...]
    choices: tuple[Keys, ...] = ()
    granted: Granted = None

    @property
    def paths(self) -> tuple[Keys, ...]:
        """Every way to something that is looked for."""
        read = [path for column in self.columns for path in column.paths]
        ways = [path for way in self.records for path in way.paths]
        return (*read, *ways, *self.user_agent)

    def derive(self, values: Iterable[Any], agent: Any) -> list[Any]:
        """The values of an event; where it has none, what the user agent says."""
        found = values if isinstance(values, list) else list(values)
        if type(agent) is str and self.user_agent:
            says = self.agents[agent]
            for column in self.columns:
                if column.derived is not None and found[column.index] is None:
                    found[column.index] = says[column.derived]
        return found

    def fill(self, found: Sequence[Any], agent: Any, fills: Fills) -> Iterator[tuple[Column, str]]:
        """What the request says for an event, for the columns for which nothing was found. Its
        user agent is asked only if the event has none: two of them may be two devices."""
        says: Sequence[str | None] = ()
        if self.user_agent and agent is None and fills.agent is not None:
            says = self.agents[fills.agent]
        for column in self.columns:
            if found[column.index] is None:
                value = fills.peer if column.peer else None
                if value is None and column.derived is not None and says:
                    value = says[column.derived]
                if value is not None:
                    yield column, value

    @property
    def fills(self) -> bool:
        """Whether anything of a request besides its events is looked at."""
        return bool(self.user_agent) or any(column.peer for column in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The field names, in schema order."""
        return tuple(column.name for column in self.columns)


class Found(NamedTuple):
    """What is found in an event: per column a value, a mark, or ``None`` for absence; the content
    categories that are there; the user agent; and the ways to records that lead to something."""

    values: list[Any]
    content: frozenset[int]
    agent: Any
    ways: list[tuple[Way, Any]]


def _paths(sources: Iterable[str]) -> tuple[Keys, ...]:
    """Each path nested first, then as one flat key, of the event or of the element of a list."""
    found: dict[Keys, None] = {}
    for source in sources:
        nested = keys(source)
        if type(nested[0]) is int:
            flat: Keys = (nested[0], source.partition(".")[2]) if len(nested) > 1 else nested
        else:
            flat = (source,)
        found.update({nested: None, flat: None})
    return tuple(found)


def _way(source: str) -> Way:
    if source == ".":
        return Way((), members=False)
    return Way(_paths([source.removesuffix(".*")]), source.endswith(".*"))


def compile_plan(
    schema: Schema, granted: Granted, today: date, circumstances: Circumstances
) -> Plan:
    """The plan for the granted purposes (``None``: all) on a day."""
    derived = [
        name
        for name, field in schema.fields.items()
        if field.derive and not _withheld(field, granted, today)
    ]
    columns = tuple(_columns(schema, granted, today, circumstances, derived))
    content = {name: CATEGORIES.index(category) for name, category in schema.content_names.items()}
    agent = _paths(schema.user_agent_paths)
    choices = _paths([schema.consent] if schema.consent else ())
    ways = tuple(map(_way, schema.records or ()))
    return Plan(
        schema.id,
        columns,
        tuple(content.items()),
        records=ways,
        user_agent=agent if derived else (),
        agents=Agents(derived),
        reads_lists=_reads_lists(columns, ways, agent),
        required=tuple(column.index for column in columns if column.required),
        choices=choices,
        granted=granted,
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
        yield Column(
            index=index,
            name=name,
            field=field,
            paths=_paths(field.paths(name)),
            wire=field.wire,
            accept=canonical if memo is None else memo,
            memo=memo,
            required=field.required,
            withheld=withheld,
            derived=derived.index(name) if name in derived else None,
            peer=field.source == "peer" and not withheld,
            codes={reason: drop_code(index, reason) for reason in DROPS},
        )


def _reads_lists(columns: Iterable[Column], ways: Iterable[Way], agent: tuple[Keys, ...]) -> bool:
    """Whether some path begins in a list, besides that of choices, which make nothing an event."""
    read = [column.paths for column in columns] + [way.paths for way in ways]
    return any(type(path[0]) is int for paths in (*read, agent) for path in paths)


def _withheld(field: FieldBase, granted: Granted, today: date) -> Drop | None:
    if field.expires is not None and today >= field.expires:
        return "expired"
    if granted is not None and not set(granted) & set(field.purposes):
        return "purpose_refused"
    return None


def next_expiry(schema: Schema, today: date) -> date | None:
    """The day on which the plan has to be compiled anew, if there is one."""
    days = [field.expires for field in schema.fields.values() if field.expires]
    return min((day for day in days if day > today), default=None)
