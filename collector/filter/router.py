"""Route the events of payloads (lines, documents, lists of records, mappings) into builders.

The order of checks is fixed, so that every form gives the same verdict: size, UTF-8, depth, syntax,
then the event itself. Everything that would multiply memory when decoded is counted first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from collector.contracts import Granted
from collector.filter.admission import (
    Admission,
    AdmissionBuilder,
    Bounds,
    SingleAdmissions,
    record_type,
)
from collector.filter.event_consent import EventConsent
from collector.filter.judge import Context, sender_context
from collector.filter.members import FAILURES
from collector.filter.plan import Plan, SenderInfo
from collector.filter.reader import Found, Reader, Readers
from collector.filter.records import (
    MAX_ITEMS,
    OBJECTS,
    TEXTS,
    Form,
    NestedRecords,
    find_records,
    groups_within,
    may_be_typed,
    take,
)
from collector.filter.text import (
    BOM,
    MAX_LINE,
    SLICE,
    are_readable,
    is_blank,
    is_list,
    is_utf8,
    line_slices,
    name_search,
    need_no_look,
    readable_lines,
    refusal,
)
from collector.turns import in_turns

if TYPE_CHECKING:
    from collector.filter.otlp import OtlpFilter
    from collector.filter.sdk_records import SdkRecordFilter

_NEWLINE = ord("\n")
_Text = bytes | memoryview
Narrow = Callable[[Granted, frozenset[str]], "EventRouter"]
"""``narrow(granted, refused)``: the router for the granted purposes without the refused ones."""


class EventRouter:
    """Reads payloads for one plan.

    If events carry ``consent``, another plan may read an event: ``narrow`` returns its router.
    """

    def __init__(
        self,
        plan: Plan,
        consent: EventConsent | None = None,
        narrow: Narrow | None = None,
        readers: Readers | None = None,
    ) -> None:
        self.plan = plan
        self.consent = consent
        self._narrow = narrow
        self._narrowed: dict[frozenset[str], EventRouter] = {frozenset(): self}
        self._record = record_type(plan)
        self.readers: Readers = readers or Readers(plan, self._record)
        self._nested = NestedRecords(plan)
        self._documents = cache(self._make_documents)
        self.read_mapping: Callable[[Any], Any] = self.readers.objects.of_object
        self.read_text: Callable[[Any], Any] = self.readers.objects.texts.decode
        self.single: Callable[[Any, int], Admission] | None = self._single()

    def _single(self) -> Callable[[Any, int], Admission] | None:
        """Return the function that admits a single decoded event, if events are records.

        Judges are made early: an event emitted in a signal handler must not wait for them.
        """
        objects = self.readers.objects
        if self.plan.is_map:
            return None
        if not self.plan.records:
            return SingleAdmissions(self.plan, objects.judge("events", self.plan.selection)).of
        for selection in {way.selection for way in self.plan.records if way.paths}:
            objects.judge("records", selection)
        return None

    @property
    def code(self) -> str:
        """The source of the judge for events that are objects, with the meaning of its names."""
        first = next((way for way in self.plan.records if way.paths), None)
        code = (
            self.readers.objects.code("events", self.plan.selection)
            if first is None
            else self.readers.objects.code("records", first.selection)
        )
        return "\n".join([*code.legend, "", code.source])

    def builder(
        self,
        sender: SenderInfo | None = None,
        *,
        by_grant: bool = False,
        bounds: Bounds | None = None,
    ) -> AdmissionBuilder:
        """Make an empty builder; one with ``sender`` only for a single event."""
        return AdmissionBuilder(self.plan, sender=sender, by_grant=by_grant, bounds=bounds)

    @cached_property
    def otlp(self) -> OtlpFilter:
        """The same plan for OpenTelemetry data."""
        from collector.filter.otlp import OtlpFilter  # noqa: PLC0415 - most processes never use it

        if self.consent is None:
            return OtlpFilter(self.plan)
        return OtlpFilter(self.plan, self.consent, lambda refused: self.without(refused).otlp)

    @cached_property
    def sdk_records(self) -> SdkRecordFilter:
        """The same plan for records that a filter has already made."""
        from collector.filter.sdk_records import SdkRecordFilter  # noqa: PLC0415 - as above

        return SdkRecordFilter(self.plan)

    # -- choices -----------------------------------------------------------------------------------

    def may_choose(self, text: _Text | None) -> bool:
        """Return whether events may carry choices. A given text is searched for them as a whole."""
        return self.consent is not None and (text is None or self.consent.may_occur_in(text))

    def by_router(
        self, payloads: Iterable[Any], form: Form, may_choose: bool
    ) -> Iterable[tuple[EventRouter, Iterable[Any]]]:
        """Group consecutive payloads by the router that their choices require."""
        if self.consent is None or not may_choose:
            return ((self, payloads),)
        return groupby(payloads, partial(self.router_for, form=form))

    def router_for(self, event: Any, form: Form) -> EventRouter:
        """Return the router that the choices in an event require."""
        return self if self.consent is None else self.without(self.consent.refused_in(event, form))

    def without(self, refused: frozenset[str]) -> EventRouter:
        """Return the router for the granted purposes without the refused ones."""
        found = self._narrowed.get(refused)
        if found is None:
            found = self._narrow(self.plan.granted, refused) if self._narrow else self
            self._narrowed[refused] = found
        return found

    # -- events ------------------------------------------------------------------------------------

    def add_lines(self, text: bytes, builder: AdmissionBuilder) -> None:
        """Add every line that is not blank as one event."""
        may_choose = self.consent is not None and self.may_choose(text if is_utf8(text) else None)
        if may_choose or self.plan.records or self.plan.is_map:
            lines = readable_lines(text, builder.rejected.append)
            self._add_payloads(lines, TEXTS, builder, may_choose, are_apart=True)
        else:
            self._add_slices(text, builder)

    def _add_slices(self, text: bytes, builder: AdmissionBuilder) -> None:
        """Add lines without choices, several at a time, or one by one if any of them is unusual."""
        objects, selection = self.readers.objects, self.plan.selection
        reject, texts = builder.rejected.append, objects.texts
        is_plain: bool | None = None
        for start, end, is_single in line_slices(text, SLICE):
            if end - start > SLICE:
                line = memoryview(text)[start : end - (text[end - 1] == _NEWLINE)]
                if reason := refusal(line, MAX_LINE):
                    reject(reason)
                else:
                    self.add_events((line,), TEXTS, builder, None, selection)
                continue
            events = None
            if is_single:  # a copy stays in the CPU's cache for the check and the decoder
                copied = text[start:end]
                if are_readable(copied):
                    events = texts.line(copied)
            else:
                is_plain = need_no_look(text) if is_plain is None else is_plain
                if is_plain or are_readable(text[start:end]):
                    events = texts.lines(text, start, end)
            if events is None:
                lines = readable_lines(text[start:end], reject)
                self.add_events(lines, TEXTS, builder, None, selection)
            else:
                self.judge_all(objects, events, builder, None, selection)

    def add_document(self, text: _Text, builder: AdmissionBuilder) -> None:
        """Add one JSON text: an object is one event, an array is many."""
        if text[: len(BOM)] == BOM:
            text = memoryview(text)[len(BOM) :]
        reason = refusal(text)
        if reason is None and is_blank(text):
            reason = "malformed"
        if reason is not None:
            builder.rejected.append(reason)
            return
        payloads: Iterable[Any] = (text,)
        if is_list(text):
            payloads = take(TEXTS.elements(text), builder, MAX_ITEMS)
        self._add_payloads(payloads, TEXTS, builder, self.may_choose(text))

    def add_object(self, event: Any, builder: AdmissionBuilder) -> None:
        """Add one event, or a document around records: a dictionary, or a list if the schema reads
        lists."""
        self._add_payloads((event,), OBJECTS, builder, may_choose=True)

    def _add_payloads(
        self,
        payloads: Iterable[Any],
        form: Form,
        builder: AdmissionBuilder,
        may_choose: bool,
        *,
        are_apart: bool = False,
    ) -> None:
        """Add events, or documents around records. The limit of records applies to all payloads
        together, or to each if they ``are_apart``."""
        if self.plan.is_map:
            payloads = chain.from_iterable(form.mapped(each, builder) for each in payloads)
        for router, group in self.by_router(payloads, form, may_choose):
            its_builder = builder.for_plan(router.plan)
            if self.plan.records:
                for payload in group:
                    limit = MAX_ITEMS - (0 if are_apart else its_builder.received)
                    router.add_records_in(payload, form, its_builder, limit)
            else:
                router.add_events(group, form, its_builder, None, self.plan.selection)

    def add_events(
        self,
        payloads: Iterable[Any],
        form: Form,
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
    ) -> None:
        """Add events whose choices this router grants, if they meet a selection."""
        events = self._read_each(payloads, form, builder, around, selection)
        self.judge_all(self.readers.objects, events, builder, around, selection)

    def _read_each(
        self,
        payloads: Iterable[Any],
        form: Form,
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
    ) -> Iterator[Any]:
        """Yield events that are objects; judge events that are lists directly."""
        objects, read, readers = self.readers.objects, form.read, self.readers
        for payload in in_turns(payloads):
            found = read(readers, payload)
            if type(found) is not tuple:
                self._reject(found, builder)
            elif found[0] is objects:
                yield found[1]
            else:
                self.judge_all(found[0], found[1:], builder, around, selection)

    def read(self, payload: Any, form: Form, builder: AdmissionBuilder) -> Found | None:
        """Read a payload; return ``None`` if it is blank, or counted as rejected."""
        found = form.read(self.readers, payload)
        if isinstance(found, tuple):
            return found
        self._reject(found, builder)
        return None

    def _reject(self, found: Any, builder: AdmissionBuilder) -> None:
        if found is not None:
            builder.rejected.append(found)

    def judge_all(
        self,
        reader: Reader,
        events: Iterable[Any],
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
    ) -> None:
        """Judge events. If nothing is around them, the sender's data is their context."""
        outcome = builder.records, builder.notes, builder.rejected
        if around is None and builder.sender is not None:
            around = self.outermost(builder)
        if around is None:
            reader.judge("events", selection)(events, *outcome)
        else:
            reader.judge("records", selection)(events, *outcome, around)

    # -- records in documents ----------------------------------------------------------------------

    def add_records_in(
        self, document: Any, form: Form, builder: AdmissionBuilder, limit: int
    ) -> None:
        """Add the records of a document, at most ``limit``. Each record is an event, and may carry
        its own choices."""
        if form is TEXTS and self._add_typed_document(document, builder, limit):
            return
        found = self.read(document, form, builder)
        if found is None:
            return
        level, records = find_records(self.plan, found, form, builder, limit)
        if level is None:
            return
        if not level.paths:
            self.add_events((document,), form, builder, None, level.selection)
        elif records:
            outermost = self, self._context(found, document, self.outermost(builder))
            may_choose = form is OBJECTS or self.may_choose(document)
            groups = self._nested.groups(level, records, form, builder, limit)
            enter = partial(_enter, form, may_choose)
            for within, group in groups_within(groups, outermost, enter):
                if within is None:
                    builder.for_plan(self.plan).rejected += ["too_deep"] * len(group)
                    continue
                router, around = within
                for its_router, events in router.by_router(group, form, may_choose):
                    its_builder = builder.for_plan(its_router.plan)
                    its_context = its_router.context_for(around, form)
                    its_router.add_events(events, form, its_builder, its_context, level.selection)

    def _add_typed_document(self, payload: Any, builder: AdmissionBuilder, limit: int) -> bool:
        """Add the records of a small document if all its types are right.

        Returns whether they were added. A document with choices is not.
        """
        if not may_be_typed(memoryview(payload)):
            return False
        text = bytes(payload)
        if self.may_choose(text):
            return False
        made = self._documents(self._may_hold_content(text))
        if made is None:
            return False
        documents, objects = made
        try:
            document = documents.texts.decode(text)
        except FAILURES:
            return False
        way = self.plan.records[0]
        records = documents.value(document, way.paths)
        if records is None:
            return False
        if chosen := take(records, builder, limit):
            around = documents.surround(document, self.outermost(builder), None)
            outcome = builder.records, builder.notes, builder.rejected
            objects.judge("records", way.selection)(chosen, *outcome, around)
        return True

    @cached_property
    def _may_hold_content(self) -> Callable[[bytes], bool]:
        return name_search(name for name, _ in self.plan.content)

    def _make_documents(self, content: bool) -> tuple[Reader, Reader] | None:
        """Make two readers: of documents whose first path leads to a list of records, decoded with
        the document, and of these records. With ``content``, they look for names of content.

        Looking for names in vain would take half of the decoder's time.
        """
        way, plan = self.plan.records[0], self.plan if content else replace(self.plan, content=())
        if (
            way.members
            or way.below
            or not (way.paths and all(type(path[0]) is str for path in way.paths))
        ):
            return None
        objects = self.readers.objects if content else Reader(plan, self._record, str)
        documents = Reader(plan, self._record, str, listed=objects.shape.kind)
        return (documents, objects) if objects.shape.is_typed else None

    def outermost(self, builder: AdmissionBuilder) -> Context:
        """Return the context of whole documents: the sender's data."""
        return sender_context(self.plan, builder.sender)

    def _context(self, found: Found, document: Any, around: Context) -> Context:
        reader, event = found
        context = reader.surround(event, around, document)
        context.by_grant[self.plan.granted] = context
        return context

    def context_for(self, context: Context, form: Form) -> Context:
        """Return this plan's version of a context that another plan made."""
        if context.around is None:
            return sender_context(self.plan, context.document)
        found = context.by_grant.get(self.plan.granted)
        if found is None:
            around = self.context_for(context.around, form)
            event = form.read(self.readers, context.document)
            assert isinstance(event, tuple)  # noqa: S101 - it has been read before
            found = self._context(event, context.document, around)
            context.by_grant[self.plan.granted] = found
        return found

    def enter(self, element: Any, form: Form, around: Context) -> Context | None:
        """Return the context of an element; ``None`` if the element is unreadable here."""
        found = form.read(self.readers, element)
        if not isinstance(found, tuple):
            return None
        return self._context(found, element, self.context_for(around, form))


def _enter(
    form: Form, may_choose: bool, within: tuple[EventRouter, Context], element: Any
) -> tuple[EventRouter, Context] | None:
    """Return the router that the choices of an element require, within the router around it, and
    the element's context."""
    ((router, _),) = within[0].by_router((element,), form, may_choose)
    context = router.enter(element, form, within[1])
    return None if context is None else (router, context)
