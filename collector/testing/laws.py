"""``assert_noninterference``: the law of an allowlist, for any schema.

Two well-formed events that agree on the admitted values give byte-identical records, and counts
that differ at most in dropped fields and content. No line of a batch changes the result of another
line. Only the outcome of a person's choices matters, and refusing more never adds a byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.consent import refused
from collector.contracts import Tally
from collector.filter import Admission, Filter
from collector.filter.derive import Agents
from collector.schema import Schema
from collector.schema.kinds import Circumstances
from collector.schema.scalars import levels
from collector.testing._events import (
    Event,
    Path,
    choices_of,
    compared_paths,
    paths_of,
    place,
    reads_lists,
    ways,
)
from collector.testing._texts import lines, seeds, write
from collector.testing._values import Values, agents, choices, clock, junk, values

__all__ = [
    "agree",
    "assert_noninterference",
    "event_pairs",
    "fixed_key",
    "narrows",
    "stand_alone",
]


def assert_noninterference(
    schema: Schema,
    *,
    purposes: Collection[str] | None = None,
    keys: Callable[[str, int], bytes] | None = None,
    examples: int | None = None,
) -> None:
    """Test a schema against the law; raises ``AssertionError`` with the smallest counterexample.

    ``purposes`` are the granted ones (``None``: all). ``keys`` resolves key references of
    pseudonyms (``None``: a fixed key). ``examples`` is how many cases of each part of the law are
    tried (``None``: Hypothesis's setting, 100 by default).
    """
    now, keys = clock(), keys or fixed_key
    tested = Filter(schema, purposes=purposes, as_of=now, keys=keys)
    usual = settings(
        max_examples=examples or settings().max_examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @usual
    @given(event_pairs(schema, Circumstances(lambda: now, keys)), seeds(), seeds())
    def only_admitted_values_matter(pair: tuple[Any, Any], seed: int, other: int) -> None:
        agree(tested, pair, (seed, other))

    @usual
    @given(lines(schema, now=now))
    def each_line_stands_alone(payload: bytes) -> None:
        stand_alone(tested, payload)

    @usual
    @given(lines(schema, now=now), st.sets(st.sampled_from([*schema.purposes])))
    def refusing_never_adds(payload: bytes, refused: set[str]) -> None:
        narrows(tested, tested.without(refused), payload)

    only_admitted_values_matter()
    each_line_stands_alone()
    if schema.optional:
        refusing_never_adds()


def fixed_key(reference: str, period: int) -> bytes:
    return b"a key for tests, not for use ..."


def agree(
    tested: Filter,
    pair: tuple[Any, Any],
    written: tuple[int, int],
) -> None:
    """Assert that events with the same admitted values give the same result, as mappings and as
    texts."""
    texts = [write([event], seed) for event, seed in zip(pair, written, strict=True)]
    mapped = [tested.admit(event) for event in pair if type(event) is dict]
    admissions = [*mapped, *map(tested.admit, texts)]
    ordered = not any(way.endswith("*") for way in tested.schema.ways)
    first, *others = (_outcome(admission, ordered) for admission in admissions)
    for other in others:
        assert other == first, "what a schema does not admit has changed a record"  # noqa: S101


def _outcome(admission: Admission, ordered: bool) -> tuple[list[bytes], tuple[object, ...]]:
    """The records and counts that must not depend on unadmitted values. Members of an object have
    no order, so records that are members have none either."""
    tally, records = admission.tally, admission.encode().splitlines()
    rejected = sorted(tally.rejected.items())
    return records if ordered else sorted(records), (
        tally.received,
        tally.admitted,
        rejected,
        tally.bytes_out,
    )


def stand_alone(tested: Filter, payload: bytes) -> None:
    """Assert that a batch gives the records and counts of its lines one by one."""
    whole = tested.admit_lines(payload)
    parts = re.findall(rb"[^\n]*\n|[^\n]+", payload)
    one_by_one = [tested.admit_lines(part, first=not at) for at, part in enumerate(parts)]
    records = b"".join(admission.encode() for admission in one_by_one)
    assert whole.encode() == records, "a line has changed what another line gives"  # noqa: S101
    total = reduce(add, (admission.tally for admission in one_by_one), Tally())
    assert whole.tally == total, "the counts of a batch are not those of its lines"  # noqa: S101


def narrows(wider: Filter, narrower: Filter, payload: bytes) -> None:
    """Assert that more refusals give the same records in the same order, with some values removed
    and none added."""
    wide, narrow = wider.admit_lines(payload), narrower.admit_lines(payload)
    before = iter(_items(wide))
    is_less = all(any(less <= more for more in before) for less in _items(narrow))
    assert is_less, "who refuses has added to a record"  # noqa: S101
    counted = narrow.tally.received == wide.tally.received
    assert counted, "who refuses has changed how many events there were"  # noqa: S101


def _items(admission: Admission) -> list[set[tuple[str, str]]]:
    return [{(key, repr(value)) for key, value in each.items()} for each in admission.records]


# -- pairs of events that agree on the admitted values, and on nothing else if it can be helped. A
# variant is built from an event: what the schema does not list is thrown away and other members are
# put in its place; a value that its field refuses becomes another one that it refuses; a value that
# is admitted may be spelled in another way that means the same; the order of members changes.


@dataclass(frozen=True, slots=True)
class _Reader:
    """A reader of a member: a field, the user agent, or the choices."""

    wire: frozenset[type]
    canonical: Callable[[Any], object]
    spellings: Values

    def outcome(self, value: Any) -> object:
        """Return the outcome for a value; all reasons for a refusal are one outcome."""
        result = self.canonical(value) if type(value) in self.wire else None
        return type(result), result


@dataclass(slots=True)
class _Listed:
    """A member that the schema lists: as a value, as the way to one, or as both."""

    members: dict[str | int, _Listed] = field(default_factory=dict)
    readers: list[_Reader] = field(default_factory=list)
    records: _Listed | None = None
    """What is listed in each record of a list at this path."""

    def at(self, path: Path) -> _Listed:
        node = self
        for key in path:
            node = node.members.setdefault(key, _Listed())
        return node


def _listed(schema: Schema, around: Circumstances) -> _Listed:
    root = _Listed()
    for name, each in schema.fields.items():
        reader = _Reader(each.reads(), each.canonical(around), values(each, around.now()))
        for path in paths_of(schema, name):
            root.at(path).readers.append(reader)
    for path, lists in compared_paths(schema).items():
        fitting = st.sampled_from([value for listed in lists for value in listed.written()])
        scalars = frozenset({str, bool, int, float})
        root.at(path).readers += [_Reader(scalars, listed.has, fitting) for listed in lists]
    derived = Agents([name for name, each in schema.fields.items() if each.derive])
    agent = _Reader(frozenset({str}), derived.__getitem__, agents())
    for source in schema.user_agent_paths:
        for path in ways(source):
            root.at(path).readers.append(agent)
    consent = _Reader(
        frozenset({dict, list}),
        lambda value: _refusals(schema.optional, value),
        choices(schema.optional),
    )
    for source in choices_of(schema):
        for path in ways(source):
            root.at(path).readers.append(consent)
    return root


def _refusals(optional: tuple[str, ...], value: Any) -> object:
    """Return the refused purposes; ``None`` for all of them, as for unreadable choices."""
    found = refused(optional, value)
    return None if found == set(optional) else found


def event_pairs(schema: Schema, around: Circumstances) -> st.SearchStrategy[tuple[Any, Any]]:
    """Pairs of events of plain JSON values that must give the same record, or the same records.

    They are dictionaries, or also lists if the schema looks into lists.
    """
    element, document = _listed(schema, around), _listed(schema, around)
    if schema.ways == ("*",):
        document = _Listed(records=element)
    for way in schema.ways:
        if way not in (".", "*"):
            _add_way(document, levels(way), element, lambda: _listed(schema, around))
    return _pair(
        place(schema, around.now()), document, _keys(schema), reads_lists=reads_lists(schema)
    )


def _add_way(
    document: _Listed, way: tuple[str, ...], element: _Listed, make: Callable[[], _Listed]
) -> None:
    """List where records are; if several ways begin at one list, the first one decides."""
    first, *rest = way
    inner = element
    if rest:
        _add_way(inner := make(), tuple(rest), element, make)
    for path in ways(first.removesuffix(".*")):
        node = document.at(path)
        node.records = node.records or inner


@st.composite
def _pair(
    draw: st.DrawFn,
    events: Values,
    document: _Listed,
    keys: st.SearchStrategy[str],
    *,
    reads_lists: bool,
) -> tuple[Any, Any]:
    event = draw(events)
    variant = _Variant(draw, reads_lists, keys)
    return event, variant.event(event, document)


def _keys(schema: Schema) -> st.SearchStrategy[str]:
    return st.sampled_from(["unlisted", "é", *schema.content_names]) | st.text(max_size=4)


@dataclass(frozen=True, slots=True)
class _Variant:
    """Builds one variant of an event."""

    draw: st.DrawFn
    reads_lists: bool
    keys: st.SearchStrategy[str]

    def event(self, event: Any, listed: _Listed) -> Any:
        """Vary the value if it is an event, otherwise draw another value that is not an event."""
        if type(event) is dict and listed.records is not None:
            return self.records(event, listed, listed.records)
        if type(event) is dict:
            return self.object(event, listed)
        if type(event) is not list or not self.reads_lists:
            return self.draw(_NO_EVENT if self.reads_lists else _NO_OBJECT)
        return self.elements(event, listed)

    def elements(self, event: list[Any], listed: _Listed) -> list[Any]:
        """Vary the listed elements without effect, and replace the others."""
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
        """Vary the listed members without effect, and replace the unlisted ones."""
        members = [
            (key, self.member(value, listed.members[key]))
            for key, value in event.items()
            if key in listed.members
        ]
        unlisted = self.draw(st.dictionaries(self.keys, junk(), max_size=3))
        members += [item for item in unlisted.items() if item[0] not in listed.members]
        return dict(self.draw(st.permutations(members)))

    def member(self, value: Any, listed: _Listed) -> Any:
        """Vary a listed member."""
        if value is None:
            return None
        if listed.records is not None:
            return self.records(value, listed, listed.records)
        if type(value) is dict and listed.members:
            return self.object(value, listed)
        if type(value) is list and int in map(type, listed.members):
            return self.elements(value, listed)
        if not listed.readers:
            return self.draw(_NO_EVENT)
        other = self.draw(st.one_of(junk(), *(reader.spellings for reader in listed.readers)))
        is_way = type(other) in (dict, list) and listed.members
        same = all(reader.outcome(other) == reader.outcome(value) for reader in listed.readers)
        return other if same and other is not None and not is_way else value

    def records(self, value: Any, listed: _Listed, element: _Listed) -> Any:
        """Vary the records at a path; the keys of an object mean nothing."""
        if type(value) is list:
            return [self.event(each, element) for each in value]
        if type(value) is not dict or listed.members:
            return value
        each = [self.event(v, element) if type(v) is dict else v for v in value.values()]
        return {f"{number}{self.draw(self.keys)}": v for number, v in enumerate(each)}


_NO_OBJECT = junk().filter(lambda value: type(value) is not dict)
_NO_EVENT = junk().filter(lambda value: type(value) not in (dict, list))
