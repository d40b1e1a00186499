"""The records of a document: the elements of a list, or the members of an object, undecoded.

Everything that would multiply memory when decoded is counted first: three bytes of text can be an
object of a hundred bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar, cast

import msgspec

from collector.contracts import Rejection
from collector.filter.admission import AdmissionBuilder
from collector.filter.decode.json import FAILURES, skip
from collector.filter.decode.mapping import is_list as is_python_list
from collector.filter.decode.mapping import object_members, text_members
from collector.filter.plan import Plan, RecordPath, content_code
from collector.filter.reader import Reader, Readers
from collector.filter.shape import NULL
from collector.filter.text import PIECE, count_elements, is_list

MAX_ITEMS = 50_000
"""The most events in one document, and the most members of an object that holds records."""

ReadRecords = Callable[[Any, AdmissionBuilder, int], "list[Any] | None"]
"""``read(value, builder, limit)``: the records in a value to which a record path leads.

They are counted as rejected if there are more than ``limit``, or if the value cannot hold any;
``None`` leaves the event to the next path."""

_T = TypeVar("_T")

RecordsIn = tuple[ReadRecords, ReadRecords]
"""How to read a list, and an object."""

RecordGroup = tuple[tuple[Any, ...], list[Any]]
"""Records of one list, and the elements of lists that they lie in, the outermost first."""

_MAX_COMMAS = 1_000_000
"""An element takes 66 bytes, undecoded. Unless a text is dense with commas, a list that turns out
to be too long costs no more than 66 MB, and less than five times the text; counting is slower by
far."""

_MAX_UNCOUNTED = 2 * MAX_ITEMS
"""Bytes of a text that cannot hold more elements than allowed."""
_MAX_TYPED, _MAX_UNCOUNTED_TYPED, _LEAST_OBJECT = 1 << 18, 1 << 15, 64
"""An object of three bytes takes some hundred bytes when it is decoded into its type, and all those
of a document are there at once. So it may have 256 KiB, and above 32 KiB one object for each 64
bytes, which keeps these to a few megabytes."""

_READ = ("columns", "content", "user_agent", "selections")
"""Parts of a plan that are not read on the way to records."""
_OBJECT = ord("{")
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def records_in_list(text: Any, builder: AdmissionBuilder, limit: int) -> list[msgspec.Raw]:
    """Return the elements of a list: a valid JSON text, or a document that may be malformed."""
    text = memoryview(text)
    if not is_list(text):
        builder.rejected.append("not_an_object")
        return []
    reason: Rejection = "malformed"
    try:
        found = decode_list(text)
        if isinstance(found, int):
            return at_most(limit, found, [], builder)
        return at_most(limit, len(found), found, builder)
    except RecursionError:
        reason = "too_deep"
    except FAILURES:
        pass
    builder.rejected.append(reason)
    return []


def decode_list(text: memoryview | msgspec.Raw) -> list[msgspec.Raw] | int:
    """Return the elements of a list, undecoded.

    Returns only their number where they are more than ``MAX_ITEMS`` and would take too much memory.
    Raises what msgspec raises.
    """
    text = memoryview(text)
    if has_many_commas(text):
        skip(text)
        number = count_elements(text)
        if number > MAX_ITEMS:
            return number
    return _list(text)


def records_in_object(
    text: msgspec.Raw, builder: AdmissionBuilder, limit: int
) -> list[msgspec.Raw] | None:
    """Return the members of an object that are objects themselves; ``None`` if there is none."""
    view = memoryview(text)
    if view[0] != _OBJECT:
        return None
    if _count_commas(view) >= MAX_ITEMS and count_elements(view) > MAX_ITEMS:
        builder.rejected.append("too_large")
        return []
    try:
        objects = [raw for raw in _object(view).values() if memoryview(raw)[0] == _OBJECT]
    except RecursionError:
        builder.rejected.append("too_deep")
        return []
    return at_most(limit, len(objects), objects, builder) if objects else None


def records_in_sequence(value: Any, builder: AdmissionBuilder, limit: int) -> list[Any]:
    """Return the elements of a Python list or tuple."""
    if not is_python_list(value):
        builder.rejected.append("not_an_object")
        return []
    return at_most(limit, len(value), value, builder)


def records_in_mapping(value: Any, builder: AdmissionBuilder, limit: int) -> list[Any] | None:
    """Return the members of a dictionary that are dictionaries; ``None`` if there is none."""
    if type(value) is not dict:
        return None
    if len(value) > MAX_ITEMS:
        builder.rejected.append("too_large")
        return []
    objects = object_members(value)
    return at_most(limit, len(objects), objects, builder) if objects else None


def events_in_map(text: Any, builder: AdmissionBuilder) -> list[Any]:
    """Return the members of a map of events that are objects, a JSON text that may be malformed. A
    text that is no object comes back as it is. Content is counted, and is no event."""
    view = memoryview(text)
    try:
        if has_many_commas(view):
            skip(view)
            if (number := count_elements(view)) > MAX_ITEMS:
                return at_most(MAX_ITEMS, number, [], builder)
        members = _object(view)
    except (*FAILURES, RecursionError):
        return [text]
    return _events(members, lambda raw: memoryview(raw)[0] == _OBJECT, builder)


def events_in_mapping(event: dict[Any, Any], builder: AdmissionBuilder) -> list[dict[Any, Any]]:
    """Do the same with a dictionary."""
    return _events(text_members(event), lambda value: type(value) is dict, builder)


def _events(
    members: dict[str, Any], is_event: Callable[[Any], bool], builder: AdmissionBuilder
) -> list[Any]:
    content = dict(builder.plan.content)
    named = {
        content[name] for name in content.keys() & members if members[name] not in (None, NULL)
    }
    builder.notes += [content_code(builder.plan, category) for category in sorted(named)]
    found = [value for name, value in members.items() if name not in content and is_event(value)]
    if not found:
        builder.rejected.append("not_an_object")
    return at_most(MAX_ITEMS, len(found), found, builder) if found else []


TEXTS: RecordsIn = (records_in_list, records_in_object)
"""Readers of JSON texts."""
OBJECTS: RecordsIn = (records_in_sequence, records_in_mapping)
"""Readers of Python objects."""


def find_records(
    plan: Plan,
    found: tuple[Reader, Any],
    builder: AdmissionBuilder,
    read_in: RecordsIn,
    limit: int,
) -> tuple[RecordPath | None, list[Any]]:
    """Return the first path that has records in an event, with these.

    If no path has any, the event is counted as rejected.
    """
    reader, event = found
    for path in plan.records:
        if not path.paths:
            return path, []
        value = reader.value(event, path.paths)
        records = None if value is None else read_in[path.members](value, builder, limit)
        if records is not None:
            return path, records
    builder.rejected.append("not_an_object")
    return None, []


class NestedRecords:
    """Finds records that lie in lists within lists, under one plan.

    Each level is counted as a whole, with the elements that are rejected, before the next is read.
    If one has more than allowed, all of it is too much. A bounded call counts the elements of all
    levels.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._known: dict[RecordPath, Readers] = {}

    def groups(
        self,
        level: RecordPath,
        elements: list[Any],
        read_in: RecordsIn,
        builder: AdmissionBuilder,
        limit: int,
    ) -> list[RecordGroup]:
        """Return the records by the list that they lie in; lists without any are left out. Elements
        without a list are counted as rejected. Raises ``InputError`` E416."""
        groups: list[RecordGroup] = [((), elements)]
        if level.below is None:
            return groups
        counted = AdmissionBuilder(builder.plan)
        number, total = len(elements), 0
        below: RecordPath | None = level.below
        while below is not None:
            builder.expect_elements(number)
            groups, number = self._next(below, groups, read_in, counted, limit)
            total = number + counted.event_count
            if total > limit:
                builder.add_oversized(total)
                return []
            below = below.below
        builder.expect(total)
        builder.rejected += counted.rejected
        return groups

    def _next(
        self,
        path: RecordPath,
        groups: list[RecordGroup],
        read_in: RecordsIn,
        counted: AdmissionBuilder,
        limit: int,
    ) -> tuple[list[RecordGroup], int]:
        """Return the lists of the next level, and how many elements they have. Too many are counted
        and not kept."""
        found: list[RecordGroup] = []
        number = 0
        for chain, elements in groups:
            for element in elements:
                value, reason = self._find(path, element, is_text=read_in is TEXTS)
                read = read_in[path.members]
                records = None if value is None else read(value, counted, MAX_ITEMS)
                if records is None:
                    counted.rejected.append(reason or "not_an_object")
                    continue
                number += len(records)
                if records and number <= limit:
                    found.append(((*chain, element), records))
        return found, number

    def _find(
        self, path: RecordPath, element: Any, *, is_text: bool
    ) -> tuple[Any, Rejection | None]:
        """Return the value to which a path leads in an element, or why that is no event."""
        readers = self._known.get(path)
        if readers is None:
            nothing: dict[str, Any] = dict.fromkeys(_READ, ())
            bare = replace(self._plan, **nothing | {"records": (path,)})
            readers = self._known[path] = Readers(bare, msgspec.Struct)
        reader = readers.of_text(element) if is_text else readers.of_value(element)
        if reader is None:
            return None, "not_an_object"
        event: Any = reader.texts.read(element) if is_text else reader.of_object(element)
        if type(event) is str:
            return None, cast("Rejection", event)
        return reader.value(event, path.paths), None


def groups_within(
    groups: list[RecordGroup], outermost: _T, enter: Callable[[_T, Any], _T | None]
) -> Iterable[tuple[_T | None, list[Any]]]:
    """Return the records of each group with what ``enter(around, element)`` makes of the elements
    that they lie in, one after the other, from ``outermost`` on.

    Each element is entered once, though many groups lie in it. Of one that ``enter`` returns
    ``None`` for, and of all within it, that is what is made.
    """
    if groups and not groups[0][0]:  # the only one, of most documents
        return ((outermost, groups[0][1]),)
    return _groups_entered(groups, outermost, enter)


def _groups_entered(
    groups: list[RecordGroup], outermost: _T, enter: Callable[[_T, Any], _T | None]
) -> Iterator[tuple[_T | None, list[Any]]]:
    entered: list[tuple[Any, _T | None]] = []
    for chain, records in groups:
        shared = 0
        for (known, _), element in zip(entered, chain, strict=False):
            if known is not element:
                break
            shared += 1
        del entered[shared:]
        for element in chain[shared:]:
            around = entered[-1][1] if entered else outermost
            entered.append((element, None if around is None else enter(around, element)))
        yield entered[-1][1], records


def at_most(limit: int, number: int, records: Any, builder: AdmissionBuilder) -> list[Any]:
    """Return the records, or none where they are more than the limit, which is counted."""
    if number <= limit:
        builder.expect(number)
        return list(records)
    builder.add_oversized(number)
    return []


def may_be_typed(text: bytes | memoryview) -> bool:
    """Return whether a document may be decoded whole: few objects can be in it, for its size."""
    size = len(text)
    if size <= _MAX_UNCOUNTED_TYPED:
        return True
    return size <= _MAX_TYPED and bytes(text).count(b"{") <= size // _LEAST_OBJECT


def has_many_commas(text: bytes | memoryview) -> bool:
    """Return whether the elements of lists in a text may take too much memory, undecoded."""
    if len(text) <= _MAX_UNCOUNTED:
        return False
    return _count_commas(text) >= max(MAX_ITEMS, min(len(text) // 16, _MAX_COMMAS))


def _count_commas(text: bytes | memoryview) -> int:
    pieces = (bytes(text[at : at + PIECE]) for at in range(0, len(text), PIECE))
    return sum(piece.count(b",") for piece in pieces)
