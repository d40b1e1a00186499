"""From payloads to events: lines, documents, lists of records, mappings, each into a draft.

Everything is judged in one order, so that every path gives the same verdict: size, UTF-8, depth,
syntax, then the event itself. What would multiply memory when decoded is counted first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from collector.contracts import DROPS, Rejection
from collector.filter.compile import Found, Plan
from collector.filter.draft import Draft, record_type
from collector.filter.generate import Outer, fast_path
from collector.filter.mapping import Mapping
from collector.filter.shape import MAX_DEPTH, elements, is_deep
from collector.filter.text import BOM, PIECE, is_blank, is_utf8, lines
from collector.filter.tolerant import FAILURES, Tolerant, skip

__all__ = ["MAX_DOCUMENT", "MAX_ITEMS", "MAX_LINE", "Events"]

MAX_LINE = 16 << 20
"""The longest line, in bytes (DESIGN section 5)."""
MAX_DOCUMENT = 64 << 20
"""The largest JSON document, in bytes."""
MAX_ITEMS = 50_000
"""The most events in one document."""

_Text = bytes | memoryview
_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Events:
    """The three paths of one plan, and the decision which of them a payload takes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._record = record_type(plan)
        self._tolerant = Tolerant(plan)
        self._mapping = Mapping(plan)
        self._fill = fast_path(plan)

    def draft(self) -> Draft:
        """An empty draft."""
        return Draft(self.plan, self._record)

    def lines(self, text: bytes, draft: Draft) -> None:
        """Every line that is not blank is one event."""
        each = lines(text)
        if len(text) > MAX_LINE:
            each = _only(each, _is_short, "too_large", draft)
        if not is_utf8(text):
            each = _only(each, is_utf8, "malformed", draft)
        if _parser_goes_deep():
            each = _only(each, _is_shallow, "too_deep", draft)
        self._all(each, draft)

    def document(self, text: _Text, draft: Draft) -> None:
        """One JSON text: an object is one event, an array is many."""
        if text[: len(BOM)] == BOM:
            text = memoryview(text)[len(BOM) :]
        if len(text) > MAX_DOCUMENT:
            draft.rejected.append("too_large")
        elif not is_utf8(text):
            draft.rejected.append("malformed")
        elif _parser_goes_deep() and not _is_shallow(text):
            draft.rejected.append("too_deep")
        elif not _is_list(text):
            self._all((text,), draft, blank_counts=True)
        else:
            self._all(_elements(text, draft), draft, blank_counts=True)

    def _all(self, payloads: Iterable[Any], draft: Draft, blank_counts: bool = False) -> None:
        if self.plan.records:
            for payload in payloads:
                self._with_records(payload, draft, blank_counts)
        else:
            slow = partial(self._tolerantly, draft, None, blank_counts)
            self._fill(payloads, draft, None, slow)

    def _tolerantly(
        self, draft: Draft, outer: Outer | None, blank_counts: bool, payload: Any
    ) -> None:
        """One event whose types the fast path refused."""
        found = self._found(payload, draft, blank_counts)
        if found is None:
            return
        if outer is None:
            draft.settle(found.values, found.content)
        else:
            draft.settle(outer.around(found.values), found.content | outer.content)

    def _found(self, payload: Any, draft: Draft, blank_counts: bool) -> Found | None:
        """What a payload holds; ``None`` once it is counted, or if it is blank."""
        if not blank_counts and is_blank(payload):
            return None
        event, reason = self._tolerant.decode(payload)
        if reason is None:
            try:
                return self._tolerant.read(event)
            except RecursionError:
                reason = "too_deep"
        draft.rejected.append(reason)
        return None

    def _with_records(self, payload: Any, draft: Draft, blank_counts: bool) -> None:
        """A document around a list of records; each record is an event.

        The records of one JSON text count together, however many documents they are spread over.
        """
        found = self._found(payload, draft, blank_counts)
        if found is None:
            return
        if found.listed is None or not _is_list(memoryview(found.listed)):
            draft.rejected.append("not_an_object")
            return
        room = MAX_ITEMS - (draft.received if blank_counts else 0)
        outer = self._outer(found.values, found.content)
        slow = partial(self._tolerantly, draft, outer, True)
        self._fill(_elements(memoryview(found.listed), draft, room), draft, outer, slow)

    def _outer(self, values: Iterable[Any], content: frozenset[int]) -> Outer:
        """Settle once what the document around the records offers to each of them."""
        found = tuple(values)
        draft = self.draft()
        kept, _ = draft.judge(found)
        drops = {code // len(DROPS): code for code in draft.drops}
        codes = tuple(drops.get(index) for index in range(len(kept)))
        return Outer(found, tuple(kept), codes, content)

    def mapping(self, event: dict[Any, Any], draft: Draft) -> None:
        """One event that is a dictionary already, or a document of records that is one."""
        found = self._mapping.read(event)
        if not self.plan.records:
            draft.settle(found.values, found.content)
        elif found.listed is None:
            draft.rejected.append("not_an_object")
        elif len(found.listed) > MAX_ITEMS:
            draft.refused_unread["too_large"] += len(found.listed)
        else:
            outer = self._outer(found.values, found.content)
            for record in found.listed:
                self._mapped_record(record, outer, draft)

    def _mapped_record(self, record: Any, outer: Outer, draft: Draft) -> None:
        if type(record) is not dict:
            draft.rejected.append("not_an_object")
            return
        found = self._mapping.read(record)
        draft.settle(outer.around(found.values), found.content | outer.content)


def _parser_goes_deep() -> bool:
    """Whether the parser nests deeper than ``MAX_DEPTH`` here, so that we have to look ourselves.

    CPython 3.11 counts C recursion against the recursion limit; later ones have one of their own.
    """
    return sys.version_info >= (3, 12) or sys.getrecursionlimit() > MAX_DEPTH


def _is_short(line: _Text) -> bool:
    return len(line) <= MAX_LINE


def _is_shallow(text: _Text) -> bool:
    return not is_deep(text)


def _only(lines: Iterable[_Text], test: Any, reason: Rejection, draft: Draft) -> Iterator[_Text]:
    """The lines that pass a test; the others are rejected for the reason."""
    for line in lines:
        if test(line):
            yield line
        else:
            draft.rejected.append(reason)


_LIST = re.compile(rb"[ \t\r\n]*+\[")


def _is_list(text: _Text) -> bool:
    return _LIST.match(text) is not None


def _commas(text: _Text) -> int:
    pieces = (bytes(text[at : at + PIECE]) for at in range(0, len(text), PIECE))
    return sum(piece.count(b",") for piece in pieces)


def _elements(text: _Text, draft: Draft, room: int = MAX_ITEMS) -> list[msgspec.Raw]:
    """The elements of a list, undecoded; none if there are more than ``room``, or it is faulty."""
    reason: Rejection = "malformed"
    try:
        listed, number = [], 0
        if _commas(text) >= MAX_ITEMS:
            skip(text)
            number = elements(text)
        if number <= MAX_ITEMS:
            listed = _list(text)
            number = len(listed)
        if number <= room:
            return listed
        draft.refused_unread["too_large"] += number
        return []
    except RecursionError:
        reason = "too_deep"
    except FAILURES:
        pass
    draft.rejected.append(reason)
    return []
