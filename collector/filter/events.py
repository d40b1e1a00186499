"""From payloads to events: lines, documents, lists of records, mappings, each into a draft.

Everything is judged in one order, so that every path gives the same verdict: size, UTF-8, depth,
syntax, then the event itself. What would multiply memory when decoded is counted first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from collector.contracts import DROPS, Granted, Rejection
from collector.filter.alone import Alone, alone, never
from collector.filter.choices import Choices
from collector.filter.compile import Fills, Found, Plan
from collector.filter.draft import Draft, record_type
from collector.filter.generate import Fill, Outer, fast_path, only_slow
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

__all__ = ["MAX_DOCUMENT", "MAX_LINE", "Events", "Other", "Slow", "readable", "refusal"]

MAX_LINE = 16 << 20
"""The longest line, in bytes."""
MAX_DOCUMENT = 64 << 20
"""The largest JSON document, in bytes."""

_Text = bytes | memoryview
_Reject = Callable[[Rejection], None]
Other = Callable[[Granted, frozenset[str]], "Events"]
"""Gives the paths for what is granted without what is refused."""


class Events:
    """The three paths of one plan, and the decision which of them a payload takes.

    Where events carry ``choices``, the paths of another plan may take one: ``other`` gives those
    for what is granted without what is refused.
    """

    def __init__(
        self, plan: Plan, choices: Choices | None = None, other: Other | None = None
    ) -> None:
        self.plan = plan
        self.choices = choices
        self.other = other
        self._left: dict[frozenset[str], Events] = {frozenset(): self}
        self._record = record_type(plan)
        self._tolerant = Tolerant(plan)
        self._mapping = Mapping(plan)
        self.alone: Alone
        self._fill, self.alone = self._fast()

    def _fast(self) -> tuple[Fill, Alone]:
        """The fast paths of JSON text and of a mapping: there from the beginning, as an event that
        comes in a signal's handler must not wait for them."""
        return fast_path(self.plan), alone(self.plan, self._record)

    def draft(self, fills: Fills | None = None, *, apart: bool = False) -> Draft:
        """An empty draft; with ``fills`` only for ``slow``, and for a single event."""
        return Draft(self.plan, self._record, fills=fills, is_apart=apart)

    @cached_property
    def hearing(self) -> Alone:
        """``alone``, which leaves a mapping that carries choices."""
        return alone(self.plan, self._record, hears=True)

    @cached_property
    def slow(self) -> Events:
        """The same, with the fast path left out: it does not know what a request says."""
        return Slow(self.plan, self.choices, lambda *said: self.left(said[1]).slow)

    @cached_property
    def otlp(self) -> Otlp:
        """The same plan for OpenTelemetry's data."""
        from collector.filter.otlp import Hearing, Otlp  # noqa: PLC0415 - most never see any

        if self.choices is None:
            return Otlp(self.plan)
        hearing = Hearing(self.plan, self.choices.optional)
        return Otlp(self.plan, hearing, lambda refused: self.left(refused).otlp)

    @cached_property
    def relay(self) -> Relay:
        """The same plan for records that a filter has made already."""
        from collector.filter.relay import Relay  # noqa: PLC0415 - nor these

        return Relay(self.plan)

    def lines(self, text: bytes, draft: Draft) -> None:
        """Every line that is not blank is one event."""
        is_sound = is_utf8(text)
        each = readable(text, draft.rejected.append, is_sound=is_sound)
        self._all(text if is_sound else None, each, draft)

    def document(self, text: _Text, draft: Draft) -> None:
        """One JSON text: an object is one event, an array is many."""
        if text[: len(BOM)] == BOM:
            text = memoryview(text)[len(BOM) :]
        reason = refusal(text)
        if reason is not None:
            draft.rejected.append(reason)
        elif not is_list(text):
            self._all(text, (text,), draft, blank_counts=True)
        else:
            self._all(text, elements(text, draft, MAX_ITEMS), draft, blank_counts=True)

    def _all(
        self, text: _Text | None, payloads: Iterable[Any], draft: Draft, blank_counts: bool = False
    ) -> None:
        """The payloads that a text holds, which is sound if it is given."""
        for paths, same in self._takers(text, payloads):
            its = draft.under(paths.plan)
            if self.plan.records:
                for payload in same:
                    paths.document_of_records(payload, its, blank_counts)
            else:
                paths.take(same, its, None, blank_counts)

    def _takers(
        self, text: _Text | None, payloads: Iterable[Any]
    ) -> Iterable[tuple[Events, Iterable[Any]]]:
        """The paths that take payloads, by the choices in them, in their order."""
        choices = self.choices
        if choices is None or (text is not None and not choices.may_be_in(text)):
            return ((self, payloads),)
        return groupby(payloads, self.taker)

    def taker(self, event: Any) -> Events:
        """The paths that take an event, by the choices in it: JSON text, or a Python object."""
        return self if self.choices is None else self.left(self.choices.of(event))

    def left(self, refused: frozenset[str]) -> Events:
        """The paths of what is left without some purposes."""
        found = self._left.get(refused)
        if found is None:
            found = self.other(self.plan.granted, refused) if self.other else self
            self._left[refused] = found
        return found

    def take(
        self, payloads: Iterable[Any], draft: Draft, outer: Outer | None, blank_counts: bool
    ) -> None:
        """Events whose choices are known."""
        self._fill(payloads, draft, outer, partial(self._tolerantly, draft, outer, blank_counts))

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

    def document_of_records(self, payload: Any, draft: Draft, blank_counts: bool) -> None:
        """A document around a list of records; each record is an event, and may carry choices
        besides those of the document.

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
            outer = self._settled(found, payload)
            for paths, same in self._takers(payload, records):
                paths.take(same, draft.under(paths.plan), paths.around(outer), blank_counts=True)

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

    def around(self, outer: Outer) -> Outer:
        """What the document around records, which another plan has read, offers under this one."""
        others, granted = outer.others, self.plan.granted
        if granted not in others:
            is_mapping = type(outer.document) is dict
            found = (self._mapping if is_mapping else self._tolerant).read(outer.document)
            others[granted] = self._settled(cast("Found", found), outer.document)
        return others[granted]

    def _settled(self, found: Found, document: Any) -> Outer:
        """Settle once what the document around the records offers to each of them."""
        draft = self.draft()
        kept, _ = draft.judge(found.values)
        drops = {code // len(DROPS): code for code in draft.drops}
        codes = tuple(drops.get(index) for index in range(len(kept)))
        said = tuple(found.values), tuple(kept), codes, found.content, found.agent
        outer = Outer(*said, document)
        outer.others[self.plan.granted] = outer
        return outer

    def mapping(self, event: dict[Any, Any], draft: Draft) -> None:
        """One event that is a dictionary already, or a document of records that is one."""
        paths = self.taker(event)
        paths.mapped(event, draft.under(paths.plan))

    def mapped(self, event: dict[Any, Any], draft: Draft) -> None:
        """The same, when its own choices are known."""
        found = self._mapping.read(event)
        records = None
        if self.plan.records:
            records = self._records(found, draft, mapped_elements, mapped_members, MAX_ITEMS)
        if records is None:
            draft.settle(*found[:3])
            return
        outer = self._settled(found, event) if records else None
        for record in records:
            if outer and self._mapping.reads(record):
                paths = self.taker(record)
                paths.mapped_record(record, draft.under(paths.plan), paths.around(outer))
            else:
                draft.rejected.append("not_an_object")

    def mapped_record(self, record: Any, draft: Draft, outer: Outer) -> None:
        """One record out of a mapping, when its choices are known."""
        draft.settle(*outer.around(self._mapping.read(record)))


class Slow(Events):
    """Takes every event down the tolerant path."""

    def _fast(self) -> tuple[Fill, Alone]:
        return only_slow, never


def readable(text: bytes, reject: _Reject, *, is_sound: bool | None = None) -> Iterable[_Text]:
    """The lines that may be parsed; others are rejected. ``is_sound`` says whether the text is
    UTF-8, if that is known."""
    each = lines(text)
    if len(text) > MAX_LINE:
        each = _only(each, _is_short, "too_large", reject)
    if not (is_utf8(text) if is_sound is None else is_sound):
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
