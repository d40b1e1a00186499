"""From payloads to events: lines, documents, lists of records, mappings, each into a draft.

Everything is judged in one order, so that every path gives the same verdict: size, UTF-8, depth,
syntax, then the event itself. What would multiply memory when decoded is counted first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from collector.contracts import DROPS, Rejection
from collector.filter.alone import Alone, alone
from collector.filter.compile import Fills, Found, Plan
from collector.filter.draft import Draft, record_type
from collector.filter.generate import Outer, fast_path, only_slow
from collector.filter.mapping import Mapping
from collector.filter.records import (
    MAX_ITEMS,
    Take,
    elements,
    mapped_elements,
    mapped_members,
    members,
)
from collector.filter.shape import MAX_DEPTH, is_deep, may_hold_deep_lines
from collector.filter.text import BOM, is_blank, is_utf8, lines
from collector.filter.tolerant import Tolerant, is_list

if TYPE_CHECKING:
    from collector.filter.otlp import Otlp
    from collector.filter.relay import Relay

__all__ = ["MAX_DOCUMENT", "MAX_LINE", "Events", "readable", "refusal"]

MAX_LINE = 16 << 20
"""The longest line, in bytes."""
MAX_DOCUMENT = 64 << 20
"""The largest JSON document, in bytes."""

_Text = bytes | memoryview
_Reject = Callable[[Rejection], None]


class Events:
    """The three paths of one plan, and the decision which of them a payload takes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._record = record_type(plan)
        self._tolerant = Tolerant(plan)
        self._mapping = Mapping(plan)
        self._fill = fast_path(plan)
        self.alone: Alone = alone(plan, self._record)

    def draft(self, fills: Fills | None = None) -> Draft:
        """An empty draft; with ``fills`` only for ``slow``, and for a single event."""
        return Draft(self.plan, self._record, fills=fills)

    @cached_property
    def slow(self) -> Events:
        """The same, with the fast path left out: it does not know what a request says."""
        return _Slow(self.plan)

    @cached_property
    def otlp(self) -> Otlp:
        """The same plan for OpenTelemetry's data."""
        from collector.filter.otlp import Otlp  # noqa: PLC0415 - most filters never see any

        return Otlp(self.plan)

    @cached_property
    def relay(self) -> Relay:
        """The same plan for records that a filter has made already."""
        from collector.filter.relay import Relay  # noqa: PLC0415 - nor these

        return Relay(self.plan)

    def lines(self, text: bytes, draft: Draft) -> None:
        """Every line that is not blank is one event."""
        self._all(readable(text, draft.rejected.append), draft)

    def document(self, text: _Text, draft: Draft) -> None:
        """One JSON text: an object is one event, an array is many."""
        if text[: len(BOM)] == BOM:
            text = memoryview(text)[len(BOM) :]
        reason = refusal(text)
        if reason is not None:
            draft.rejected.append(reason)
        elif not is_list(text):
            self._all((text,), draft, blank_counts=True)
        else:
            self._all(elements(text, draft, MAX_ITEMS), draft, blank_counts=True)

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
        draft.settle(*(found[:3] if outer is None else outer.around(found)))

    def _found(self, payload: Any, draft: Draft, blank_counts: bool) -> Found | None:
        """What a payload holds; ``None`` once it is counted, or if it is blank."""
        if not blank_counts and is_blank(payload):
            return None
        found = self._tolerant.read(payload)
        if isinstance(found, Found):
            return found
        draft.rejected.append(found)
        return None

    def _with_records(self, payload: Any, draft: Draft, blank_counts: bool) -> None:
        """A document around a list of records; each record is an event.

        The records of one JSON text count together, however many documents they are spread over.
        """
        found = self._found(payload, draft, blank_counts)
        if found is None:
            return
        room = MAX_ITEMS - (draft.received if blank_counts else 0)
        records = self._records(found, draft, elements, members, room)
        if records is None:
            self._tolerantly(draft, None, blank_counts, payload)
        elif records:
            outer = self._outer(found)
            self._fill(records, draft, outer, partial(self._tolerantly, draft, outer, True))

    def _records(
        self, found: Found, draft: Draft, listed: Take, below: Take, room: int
    ) -> list[Any] | None:
        """The records that the first way leads to: none once all is counted, ``None`` if it is
        the event itself."""
        for way, value in found.ways:
            if not way.paths:
                return None
            records = (below if way.members else listed)(value, draft, room)
            if records is not None:
                return records
        draft.rejected.append("not_an_object")
        return []

    def _outer(self, found: Found) -> Outer:
        """Settle once what the document around the records offers to each of them."""
        draft = self.draft()
        kept, _ = draft.judge(found.values)
        drops = {code // len(DROPS): code for code in draft.drops}
        codes = tuple(drops.get(index) for index in range(len(kept)))
        return Outer(tuple(found.values), tuple(kept), codes, found.content, found.agent)

    def mapping(self, event: dict[Any, Any], draft: Draft) -> None:
        """One event that is a dictionary already, or a document of records that is one."""
        found = self._mapping.read(event)
        records = None
        if self.plan.records:
            records = self._records(found, draft, mapped_elements, mapped_members, MAX_ITEMS)
        if records is None:
            draft.settle(*found[:3])
            return
        outer = self._outer(found) if records else None
        for record in records:
            if outer and self._mapping.reads(record):
                draft.settle(*outer.around(self._mapping.read(record)))
            else:
                draft.rejected.append("not_an_object")


class _Slow(Events):
    """Takes every event down the tolerant path."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._fill = only_slow


def readable(text: bytes, reject: _Reject) -> Iterable[_Text]:
    """The lines that may be parsed; others are rejected."""
    each = lines(text)
    if len(text) > MAX_LINE:
        each = _only(each, _is_short, "too_large", reject)
    if not is_utf8(text):
        each = _only(each, is_utf8, "malformed", reject)
    if _parser_goes_deep() and may_hold_deep_lines(text):
        each = _only(each, _is_shallow, "too_deep", reject)
    return each


def refusal(text: _Text) -> Rejection | None:
    """Why a JSON document is not even parsed, if it is not."""
    if len(text) > MAX_DOCUMENT:
        return "too_large"
    if not is_utf8(text):
        return "malformed"
    return "too_deep" if _parser_goes_deep() and not _is_shallow(text) else None


def _parser_goes_deep() -> bool:
    """Whether the parser nests deeper than ``MAX_DEPTH`` here, so that we have to look ourselves.

    CPython 3.11 counts C recursion against the recursion limit; later ones have one of their own.
    """
    return sys.version_info >= (3, 12) or sys.getrecursionlimit() > MAX_DEPTH


def _is_short(line: _Text) -> bool:
    return len(line) <= MAX_LINE


def _is_shallow(text: _Text) -> bool:
    return not is_deep(text)


def _only(lines: Iterable[_Text], test: Any, reason: Rejection, reject: _Reject) -> Iterator[_Text]:
    """The lines that pass a test; the others are rejected for the reason."""
    for line in lines:
        if test(line):
            yield line
        else:
            reject(reason)
