"""The records of a document: the elements of a list, or the members of an object, undecoded.

What would multiply memory when decoded is counted first: three bytes of text can be an object of a
hundred bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from collector.contracts import Rejection
from collector.filter.draft import Draft
from collector.filter.mapping import is_list as is_listed
from collector.filter.mapping import members as plain_members
from collector.filter.shape import elements as count
from collector.filter.text import PIECE
from collector.filter.tolerant import FAILURES, is_list, skip

__all__ = [
    "MAX_ITEMS",
    "Take",
    "elements",
    "listed",
    "mapped_elements",
    "mapped_members",
    "members",
]

MAX_ITEMS = 50_000
"""The most events in one document, and the most members of an object that holds records."""

Take = Callable[[Any, Draft, int], "list[Any] | None"]
"""Takes the records out of a value, into which a way led. They are counted as refused if there are
more than so many, or if the value holds none at all; ``None`` leaves it to the next way."""

_MOST_COMMAS = 1_000_000
"""An element takes 66 bytes, undecoded. Unless a text is dense with commas, a list that turns out
to be too long costs no more than 66 MB, and less than five times the text; counting is slower by
far."""

_OBJECT = ord("{")
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def elements(text: Any, draft: Draft, room: int) -> list[msgspec.Raw]:
    """The elements of a list: JSON text without a fault, or a document that may have one."""
    text = memoryview(text)
    if not is_list(text):
        draft.rejected.append("not_an_object")
        return []
    reason: Rejection = "malformed"
    try:
        found = listed(text)
        if isinstance(found, int):
            return _at_most(room, found, [], draft)
        return _at_most(room, len(found), found, draft)
    except RecursionError:
        reason = "too_deep"
    except FAILURES:
        pass
    draft.rejected.append(reason)
    return []


def listed(text: memoryview | msgspec.Raw) -> list[msgspec.Raw] | int:
    """The elements of a list, or only their number where they are more than ``MAX_ITEMS`` and would
    take too much memory. Raises what msgspec raises."""
    text = memoryview(text)
    if _commas(text) >= max(MAX_ITEMS, min(len(text) // 16, _MOST_COMMAS)):
        skip(text)
        number = count(text)
        if number > MAX_ITEMS:
            return number
    return _list(text)


def members(text: msgspec.Raw, draft: Draft, room: int) -> list[msgspec.Raw] | None:
    """The members of an object that are objects themselves; ``None`` if there is none."""
    view = memoryview(text)
    if view[0] != _OBJECT:
        return None
    if _commas(view) >= MAX_ITEMS and count(view) > MAX_ITEMS:
        draft.rejected.append("too_large")
        return []
    try:
        objects = [raw for raw in _object(view).values() if memoryview(raw)[0] == _OBJECT]
    except RecursionError:
        draft.rejected.append("too_deep")
        return []
    return _at_most(room, len(objects), objects, draft) if objects else None


def mapped_elements(value: Any, draft: Draft, room: int) -> list[Any]:
    """``elements`` of a Python list or tuple."""
    if not is_listed(value):
        draft.rejected.append("not_an_object")
        return []
    return _at_most(room, len(value), value, draft)


def mapped_members(value: Any, draft: Draft, room: int) -> list[Any] | None:
    """``members`` of a Python dictionary."""
    if type(value) is not dict:
        return None
    if len(value) > MAX_ITEMS:
        draft.rejected.append("too_large")
        return []
    objects = plain_members(value)
    return _at_most(room, len(objects), objects, draft) if objects else None


def _at_most(room: int, number: int, records: Any, draft: Draft) -> list[Any]:
    if number <= room:
        return list(records)
    draft.unread.append(number)
    return []


def _commas(text: memoryview) -> int:
    pieces = (bytes(text[at : at + PIECE]) for at in range(0, len(text), PIECE))
    return sum(piece.count(b",") for piece in pieces)
