"""The records of a document: the elements of a list, or the members of an object, undecoded.

A document is a JSON text or a Python object, and so are the records in it: a ``Form`` says how to
read them. Everything that would multiply memory when decoded is counted first: three bytes of text
can become an object of a hundred bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec

from collector.contracts import Rejection
from collector.filter.admission import AdmissionBuilder
from collector.filter.decode.json import skip
from collector.filter.decode.mapping import is_list as is_python_list
from collector.filter.decode.mapping import object_members, text_members
from collector.filter.members import FAILURES
from collector.filter.plan import Plan, RecordPath, content_code
from collector.filter.reader import Found, Reader, Readers
from collector.filter.shape import NULL
from collector.filter.text import PIECE, count_elements, is_blank, is_list

MAX_ITEMS = 50_000
"""The most events in one document, and the most members of an object that holds records."""

Records = list[Any] | int | Rejection | None
"""The records in a value at a record path; or their number, if they are too many to be decoded; or
why there cannot be any. ``None`` leaves the event to the next path."""

_T = TypeVar("_T")

RecordGroup = tuple[tuple[Any, ...], list[Any]]
"""The list elements around some records, the outermost first, and the records of that list."""

_MAX_COMMAS = 1_000_000
"""An undecoded element takes 66 bytes. Unless a text is dense with commas, decoding a list that
turns out too long costs at most 66 MB, and less than five times the text; counting is far
slower."""

_MAX_UNCOUNTED = 2 * MAX_ITEMS
"""A text of at most this many bytes cannot hold more elements than allowed."""
_MAX_TYPED, _MAX_UNCOUNTED_TYPED, _LEAST_OBJECT = 1 << 18, 1 << 15, 64
"""An object of three bytes takes some hundred bytes once decoded into its type, and all objects of
a document exist at once. So a document may have 256 KiB, and above 32 KiB one object per 64 bytes,
which limits the objects to a few megabytes."""

_READ = ("columns", "content", "user_agent", "selections")
"""Parts of a plan that are not read on the way to records."""
_OBJECT = ord("{")
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Form(NamedTuple):
    """How to read events of one form: an event; the elements of a list; the members of an object
    that are objects; and the events of a map. ``read`` returns ``None`` for a blank text."""

    read: Callable[[Readers, Any], Found | Rejection | None]
    elements: Callable[[Any], Records]
    members: Callable[[Any], Records]
    mapped: Callable[[Any, AdmissionBuilder], list[Any]]


def _read_text(readers: Readers, text: Any) -> Found | Rejection | None:
    objects = readers.objects
    try:
        return objects, objects.texts.decode(text)
    except FAILURES:  # it is a list, or has unusual types
        pass
    if is_blank(memoryview(text)):
        return None
    reader = readers.of_text(text)
    event = reader.texts.read(text)
    return event if type(event) is str else (reader, event)  # type: ignore[return-value]


def _elements_of_text(text: Any) -> Records:
    """Return the elements of a list: a valid JSON text, or a document that may be malformed."""
    if not is_list(text):
        return "not_an_object"
    try:
        return decode_list(text)
    except RecursionError:
        return "too_deep"
    except FAILURES:
        return "malformed"


def _members_of_text(text: msgspec.Raw) -> Records:
    view = memoryview(text)
    if view[0] != _OBJECT:
        return None
    try:
        members = _decode_members(view)
    except RecursionError:
        return "too_deep"
    if isinstance(members, int):
        return "too_large"
    return [raw for raw in members.values() if memoryview(raw)[0] == _OBJECT] or None


def _decode_members(text: memoryview) -> dict[str, msgspec.Raw] | int:
    """Return the members of an object, undecoded. If there are more than ``MAX_ITEMS``, return only
    their number; repeated names count each time. Raises what msgspec raises."""
    if _count_commas(text) >= MAX_ITEMS:
        skip(text)
        if (number := count_elements(text)) > MAX_ITEMS:
            return number
    return _object(text)


def _read_object(readers: Readers, value: Any) -> Found | Rejection | None:
    reader = readers.of_value(value)
    return "not_an_object" if reader is None else (reader, reader.of_object(value))


def _elements_of_sequence(value: Any) -> Records:
    return list(value) if is_python_list(value) else "not_an_object"


def _members_of_mapping(value: Any) -> Records:
    if type(value) is not dict:
        return None
    return "too_large" if len(value) > MAX_ITEMS else object_members(value) or None


def _events_in_text(text: Any, builder: AdmissionBuilder) -> list[Any]:
    """Return the members that are objects of a map of events, from a JSON text that may be
    malformed. Any other text is returned unchanged. Content is counted, and is not an event."""
    view = memoryview(text)
    if is_list(view):
        return [text]
    try:
        members = _decode_members(view)
    except RecursionError:  # the next reader may have more stack left
        builder.rejected.append("too_deep")
        return []
    except FAILURES:
        return [text]
    return _events(members, lambda raw: memoryview(raw)[0] == _OBJECT, builder)


def _events_in_mapping(event: Any, builder: AdmissionBuilder) -> list[Any]:
    """Do the same with a dictionary."""
    if type(event) is not dict:
        return [event]
    members = text_members(event) if len(event) <= MAX_ITEMS else len(event)
    return _events(members, lambda value: type(value) is dict, builder)


def _events(
    members: dict[str, Any] | int, is_event: Callable[[Any], bool], builder: AdmissionBuilder
) -> list[Any]:
    if isinstance(members, int):
        return take(members, builder, MAX_ITEMS)
    content = dict(builder.plan.content)
    names = content.keys() & members
    named = {content[name] for name in names if not _is_null(members[name])}
    builder.notes += [content_code(builder.plan, category) for category in sorted(named)]
    found = [value for name, value in members.items() if name not in content and is_event(value)]
    if not found:
        builder.rejected.append("not_an_object")
    return take(found or None, builder, MAX_ITEMS)


def _is_null(value: Any) -> bool:
    """Return whether a member has no value. Comparing a foreign object would call its class."""
    return value is None or (type(value) is msgspec.Raw and value == NULL)


TEXTS = Form(_read_text, _elements_of_text, _members_of_text, _events_in_text)
"""JSON texts."""
OBJECTS = Form(_read_object, _elements_of_sequence, _members_of_mapping, _events_in_mapping)
"""Python objects."""


def take(found: Records, builder: AdmissionBuilder, limit: int) -> list[Any]:
    """Return records; if there are more than the limit, count them as too large and return none."""
    if isinstance(found, str):
        builder.rejected.append(found)
    elif found is not None:
        number = found if isinstance(found, int) else len(found)
        if number > limit:
            builder.add_oversized(number)
        elif not isinstance(found, int):
            builder.expect(number)
            return found
    return []


def decode_list(text: memoryview | msgspec.Raw) -> list[msgspec.Raw] | int:
    """Return the elements of a list, undecoded.

    Returns only their number if they are more than ``MAX_ITEMS`` and would take too much memory.
    Raises what msgspec raises.
    """
    text = memoryview(text)
    if has_many_commas(text):
        skip(text)
        number = count_elements(text)
        if number > MAX_ITEMS:
            return number
    return _list(text)


def find_records(
    plan: Plan, found: Found, form: Form, builder: AdmissionBuilder, limit: int
) -> tuple[RecordPath | None, list[Any]]:
    """Return the first path that has records in an event, and the records.

    If no path has any, the event is counted as rejected.
    """
    reader, event = found
    for path in plan.records:
        if not path.paths:
            return path, []
        records = _records_at(path, reader, event, form)
        if records is not None:
            return path, take(records, builder, limit)
    builder.rejected.append("not_an_object")
    return None, []


def _records_at(path: RecordPath, reader: Reader, event: Any, form: Form) -> Records:
    value = reader.value(event, path.paths)
    if value is None:
        return None
    return form.members(value) if path.members else form.elements(value)


class NestedRecords:
    """Finds records in nested lists, under one plan.

    Each level is counted as a whole, including rejected elements, before the next one is read. If a
    level has more than allowed, the whole document is too large. A bounded call counts the elements
    of all levels.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._known: dict[RecordPath, Readers] = {}

    def groups(
        self,
        level: RecordPath,
        elements: list[Any],
        form: Form,
        builder: AdmissionBuilder,
        limit: int,
    ) -> list[RecordGroup]:
        """Return the records by the list that holds them; lists without records are left out.
        Elements without a list are counted as rejected. Raises ``InputError`` E416."""
        groups: list[RecordGroup] = [((), elements)]
        if level.below is None:
            return groups
        counted = AdmissionBuilder(builder.plan)
        number = total = len(elements)
        below: RecordPath | None = level.below
        while below is not None:
            builder.expect_elements(number)
            groups, number = self._next(below, groups, form, counted, limit)
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
        form: Form,
        counted: AdmissionBuilder,
        limit: int,
    ) -> tuple[list[RecordGroup], int]:
        """Return the lists of the next level, and the number of their elements. Elements beyond the
        limit are counted but not kept."""
        found: list[RecordGroup] = []
        number = 0
        for chain, elements in groups:
            for element in elements:
                listed = self._records(path, element, form)
                records = take("not_an_object" if listed is None else listed, counted, MAX_ITEMS)
                number += len(records)
                if records and number <= limit:
                    found.append(((*chain, element), records))
        return found, number

    def _records(self, path: RecordPath, element: Any, form: Form) -> Records:
        """Return the records at a path in an element, or why the element is not an event."""
        readers = self._known.get(path)
        if readers is None:
            nothing: dict[str, Any] = dict.fromkeys(_READ, ())
            bare = replace(self._plan, **nothing | {"records": (path,)})
            readers = self._known[path] = Readers(bare, msgspec.Struct)
        event = form.read(readers, element)
        return _records_at(path, *event, form) if isinstance(event, tuple) else event


def groups_within(
    groups: list[RecordGroup], outermost: _T, enter: Callable[[_T, Any], _T | None]
) -> Iterator[tuple[_T | None, list[Any]]]:
    """Yield the records of each group with the result of ``enter(around, element)``, called for
    each element around them, from ``outermost`` inwards.

    Each element is entered once, even with many groups in it. If ``enter`` returns ``None`` for an
    element, the result is ``None`` for everything in it.
    """
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
        yield entered[-1][1] if entered else outermost, records


def may_be_typed(text: bytes | memoryview) -> bool:
    """Return whether a document may be decoded whole, because it can hold only few objects."""
    size = len(text)
    if size <= _MAX_UNCOUNTED_TYPED:
        return True
    return size <= _MAX_TYPED and bytes(text).count(b"{") <= size // _LEAST_OBJECT


def has_many_commas(text: bytes | memoryview) -> bool:
    """Return whether the undecoded elements of lists in a text may take too much memory."""
    if len(text) <= _MAX_UNCOUNTED:
        return False
    return _count_commas(text) >= max(MAX_ITEMS, min(len(text) // 16, _MAX_COMMAS))


def _count_commas(text: bytes | memoryview) -> int:
    pieces = (bytes(text[at : at + PIECE]) for at in range(0, len(text), PIECE))
    return sum(piece.count(b",") for piece in pieces)
