"""Route payloads to events: lines, documents, lists of records, mappings, each into a builder.

Everything is checked in one order, so that every form gives the same verdict: size, UTF-8, depth,
syntax, then the event itself. Everything that would multiply memory when decoded is counted first.
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
from collector.filter.context import Context, sender_context
from collector.filter.decode.json import FAILURES
from collector.filter.event_consent import EventConsent
from collector.filter.plan import Plan, SenderInfo
from collector.filter.reader import Reader, Readers
from collector.filter.records import (
    MAX_ITEMS,
    OBJECTS,
    TEXTS,
    NestedRecords,
    at_most,
    events_in_map,
    events_in_mapping,
    find_records,
    groups_within,
    may_be_typed,
    records_in_list,
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
    readable_lines,
    refusal,
)

if TYPE_CHECKING:
    from collector.filter.otlp import OtlpFilter
    from collector.filter.sdk_records import SdkRecordFilter

_Text = bytes | memoryview
_Found = tuple[Reader, Any]
"""An event, with its reader."""
Narrow = Callable[[Granted, frozenset[str]], "EventRouter"]
"""``narrow(granted, refused)``: the router for the granted purposes without the refused ones."""


class EventRouter:
    """Reads payloads for one plan.

    Where events carry ``consent``, another plan may read an event: ``narrow`` returns its router.
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
        self._read_mapping = self.readers.objects.of_object
        self._read_text = self.readers.objects.texts.decode
        self._single = self._singles()

    def _singles(self) -> Callable[[Any, int], Admission] | None:
        """Return what makes the admission of a single event, if events are records.

        Judges are made at once: an event emitted in a signal handler must not wait for them.
        """
        objects = self.readers.objects
        if self.plan.is_map:
            return None
        if not self.plan.records:
            return SingleAdmissions(self.plan, objects.judge("events", self.plan.selection)).of
        for selection in {way.selection for way in self.plan.records if way.paths}:
            objects.judge("records", selection)
        return None

    def admit_document(self, text: bytes) -> Admission | None:
        """Admit one valid UTF-8 text whose choices this router grants, if it is a usual event.

        ``None`` leaves it to ``add_document``.
        """
        if self._single is None:
            return None
        try:
            event = self._read_text(text)
        except FAILURES:
            return None
        return self._single(event, len(text))

    def admit_mapping(self, event: dict[Any, Any]) -> Admission | None:
        """Admit a mapping whose choices this router grants, if it is one event.

        ``None`` leaves it to ``add_mapping``.
        """
        return None if self._single is None else self._single(self._read_mapping(event), 0)

    @property
    def code(self) -> str:
        """The source of the judge, of events that are objects, with what its names stand for."""
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
        """The same plan for records that a filter has made already."""
        from collector.filter.sdk_records import SdkRecordFilter  # noqa: PLC0415 - as above

        return SdkRecordFilter(self.plan)

    # -- choices -----------------------------------------------------------------------------------

    def may_choose(self, text: _Text | None) -> bool:
        """Return whether choices may lie in a text, if it is given: all of it is searched."""
        return self.consent is not None and (text is None or self.consent.may_occur_in(text))

    def by_router(
        self, payloads: Iterable[Any], may_choose: bool
    ) -> Iterable[tuple[EventRouter, Iterable[Any]]]:
        """Group consecutive payloads by the router that their choices require."""
        if self.consent is None or not may_choose:
            return ((self, payloads),)
        return groupby(payloads, self.router_for)

    def router_for(self, event: Any) -> EventRouter:
        """Return the router that the choices in an event require: JSON text or a Python object."""
        return self if self.consent is None else self.without(self.consent.refused_in(event))

    def without(self, refused: frozenset[str]) -> EventRouter:
        """Return the router for the granted purposes without some."""
        found = self._narrowed.get(refused)
        if found is None:
            found = self._narrow(self.plan.granted, refused) if self._narrow else self
            self._narrowed[refused] = found
        return found

    # -- texts -------------------------------------------------------------------------------------

    def add_lines(self, text: bytes, builder: AdmissionBuilder) -> None:
        """Add every line that is not blank as one event."""
        may_choose = self.consent is not None and self.may_choose(text if is_utf8(text) else None)
        if may_choose or self.plan.records or self.plan.is_map:
            lines = readable_lines(text, builder.rejected.append)
            self._add_payloads(lines, builder, may_choose, blank_counts=False)
        else:
            self._add_slices(text, builder)

    def _add_slices(self, text: bytes, builder: AdmissionBuilder) -> None:
        """Add lines without choices, some at a time; one by one where any of them is unusual."""
        objects, selection = self.readers.objects, self.plan.selection
        reject = builder.rejected.append
        for part in line_slices(text):
            if len(part) > SLICE:  # a single line
                if reason := refusal(part, MAX_LINE):
                    reject(reason)
                else:
                    self.add_texts((part,), builder, None, selection)
                continue
            lines = bytes(part)
            events = objects.texts.lines(lines) if are_readable(lines) else None
            if events is None:
                self.add_texts(readable_lines(lines, reject), builder, None, selection)
            else:
                self.judge_all(objects, events, builder, None, selection)

    def add_document(self, text: _Text, builder: AdmissionBuilder) -> None:
        """Add one JSON text: an object is one event, an array is many."""
        if text[: len(BOM)] == BOM:
            text = memoryview(text)[len(BOM) :]
        reason = refusal(text)
        if reason is not None:
            builder.rejected.append(reason)
            return
        payloads: Iterable[Any] = (text,)
        if is_list(text):
            payloads = records_in_list(text, builder, MAX_ITEMS)
        self._add_payloads(payloads, builder, self.may_choose(text), blank_counts=True)

    def _add_payloads(
        self,
        payloads: Iterable[Any],
        builder: AdmissionBuilder,
        may_choose: bool,
        *,
        blank_counts: bool,
    ) -> None:
        if self.plan.is_map:
            payloads = chain.from_iterable(events_in_map(each, builder) for each in payloads)
        for router, group in self.by_router(payloads, may_choose):
            its_builder = builder.for_plan(router.plan)
            if self.plan.records:
                for payload in group:
                    router.add_record_document(payload, its_builder, blank_counts=blank_counts)
            else:
                router.add_texts(
                    group, its_builder, None, self.plan.selection, blank_counts=blank_counts
                )

    def add_texts(
        self,
        payloads: Iterable[Any],
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
        *,
        blank_counts: bool = False,
    ) -> None:
        """Add events as JSON texts whose choices this router grants, if they meet a selection."""
        events = self._decoded(payloads, builder, around, selection, blank_counts=blank_counts)
        self.judge_all(self.readers.objects, events, builder, around, selection)

    def _decoded(
        self,
        payloads: Iterable[Any],
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
        *,
        blank_counts: bool,
    ) -> Iterator[Any]:
        """Yield events that are objects; judge those that are lists in their turn."""
        objects = self.readers.objects
        decode = objects.texts.decode
        for payload in payloads:
            try:
                event = decode(payload)
            except FAILURES:
                event = None
            if event is None:
                found = self.read(payload, builder, blank_counts=blank_counts)
                if found is None:
                    continue
                reader, event = found
                if reader is not objects:
                    self.judge_all(reader, (event,), builder, around, selection)
                    continue
            yield event

    def read(self, payload: Any, builder: AdmissionBuilder, *, blank_counts: bool) -> _Found | None:
        """Read a payload; ``None`` if it is counted as rejected, or blank."""
        if not blank_counts and is_blank(payload):
            return None
        reader = self.readers.of_text(payload)
        event = reader.texts.read(payload)
        if type(event) is str:
            builder.rejected.append(event)  # type: ignore[arg-type]
            return None
        return reader, event

    def judge_all(
        self,
        reader: Reader,
        events: Iterable[Any],
        builder: AdmissionBuilder,
        around: Context | None,
        selection: int | None,
    ) -> None:
        """Judge events; those without anything around them lie in what the sender says."""
        outcome = builder.records, builder.notes, builder.rejected
        if around is None and builder.sender is not None:
            around = self.outermost(builder)
        if around is None:
            reader.judge("events", selection)(events, *outcome)
        else:
            reader.judge("records", selection)(events, *outcome, around)

    # -- records in documents ----------------------------------------------------------------------

    def add_record_document(
        self, payload: Any, builder: AdmissionBuilder, *, blank_counts: bool
    ) -> None:
        """Add the records of a document; each is an event, and may carry choices of its own.

        The records of one JSON text count together, however many documents it holds.
        """
        limit = MAX_ITEMS - (builder.received if blank_counts else 0)
        if self._add_typed_document(payload, builder, limit):
            return
        found = self.read(payload, builder, blank_counts=blank_counts)
        if found is None:
            return
        level, records = find_records(self.plan, found, builder, TEXTS, limit)
        if level is None:
            return
        if not level.paths:
            self.add_texts((payload,), builder, None, level.selection, blank_counts=blank_counts)
        elif records:
            around = self.context(found, payload, self.outermost(builder))
            may_choose = self.may_choose(payload)
            groups = self._nested.groups(level, records, TEXTS, builder, limit)
            for within, texts in groups_within(groups, (self, around), partial(_enter, may_choose)):
                if within is None:
                    builder.for_plan(self.plan).rejected += ["too_deep"] * len(texts)
                else:
                    within[0].add_group(texts, builder, within[1], level.selection, may_choose)

    def add_group(
        self,
        records: list[Any],
        builder: AdmissionBuilder,
        around: Context,
        selection: int | None,
        may_choose: bool,
    ) -> None:
        """Add records of one list as JSON texts, with the values of all that is around them."""
        for router, texts in self.by_router(records, may_choose):
            its_builder, its_context = builder.for_plan(router.plan), router.context_for(around)
            router.add_texts(texts, its_builder, its_context, selection, blank_counts=True)

    def _add_typed_document(self, payload: Any, builder: AdmissionBuilder, limit: int) -> bool:
        """Add the records of a document whose types are all right, and that is small.

        Returns whether it was one; its records carry no choices.
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
        if chosen := at_most(limit, len(records), records, builder):
            around = documents.surround(document, self.outermost(builder), None)
            outcome = builder.records, builder.notes, builder.rejected
            objects.judge("records", way.selection)(chosen, *outcome, around)
        return True

    @cached_property
    def _may_hold_content(self) -> Callable[[bytes], bool]:
        return name_search(name for name, _ in self.plan.content)

    def _make_documents(self, content: bool) -> tuple[Reader, Reader] | None:
        """Make the readers of documents whose first way leads to a list of records that is decoded
        with it, and of these; with names of content, or for texts without any.

        Names that are looked for in vain would take half of the decoder's time.
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
        """Return the context of whole documents: what the sender says."""
        return sender_context(self.plan, builder.sender)

    def context(self, found: _Found, document: Any, around: Context) -> Context:
        """Make a context of a document that was read, JSON text or a Python object."""
        reader, event = found
        context = reader.surround(event, around, document)
        context.by_grant[self.plan.granted] = context
        return context

    def context_for(self, context: Context) -> Context:
        """Return under this plan a context that was made under another."""
        if context.around is None:
            return sender_context(self.plan, context.document)
        found = context.by_grant.get(self.plan.granted)
        if found is None:
            around = self.context_for(context.around)
            event = self.read_again(context.document)
            assert event is not None  # noqa: S101 - it was read before
            found = context.by_grant[self.plan.granted] = self.context(
                event, context.document, around
            )
        return found

    def read_again(self, document: Any) -> _Found | None:
        """Read what is around records; ``None`` if it cannot be read from here."""
        if type(document) in (dict, list, tuple):
            reader = self.readers.of_value(document)
            return None if reader is None else (reader, reader.of_object(document))
        reader = self.readers.of_text(document)
        event = reader.texts.read(document)
        return None if type(event) is str else (reader, event)

    # -- mappings ----------------------------------------------------------------------------------

    def add_mapping(self, event: dict[Any, Any], builder: AdmissionBuilder) -> None:
        """Add one event that is a dictionary, or a dictionary that holds records."""
        for each in events_in_mapping(event, builder) if self.plan.is_map else (event,):
            router = self.router_for(each)
            router.add_granted_mapping(each, builder.for_plan(router.plan))

    def add_granted_mapping(self, event: dict[Any, Any], builder: AdmissionBuilder) -> None:
        """Add a dictionary whose own choices this router grants."""
        reader = self.readers.objects
        found = reader, reader.of_object(event)
        level, records = None, list[Any]()
        if self.plan.records:
            level, records = find_records(self.plan, found, builder, OBJECTS, MAX_ITEMS)
            if level is None:
                return
        if level is None or not level.paths:
            selection = self.plan.selection if level is None else level.selection
            self.judge_all(reader, found[1:], builder, None, selection)
        elif records:
            around = self.context(found, event, self.outermost(builder))
            groups = self._nested.groups(level, records, OBJECTS, builder, MAX_ITEMS)
            for within, group in groups_within(groups, (self, around), partial(_enter, True)):
                if within is not None:
                    within[0].add_mappings(group, builder, within[1], level.selection)

    def add_mappings(
        self, records: list[Any], builder: AdmissionBuilder, around: Context, selection: int | None
    ) -> None:
        """Add the elements of a Python list."""
        for record in records:
            if self.readers.of_value(record) is None:
                builder.rejected.append("not_an_object")
                continue
            router = self.router_for(record)
            reader = router.readers.of_value(record)
            assert reader is not None  # noqa: S101 - all plans read the same
            its_builder, its_context = builder.for_plan(router.plan), router.context_for(around)
            events = (reader.of_object(record),)
            router.judge_all(reader, events, its_builder, its_context, selection)


def _enter(
    may_choose: bool, within: tuple[EventRouter, Context], element: Any
) -> tuple[EventRouter, Context] | None:
    """Return the router that the choices of an element require within that of what is around it,
    and the context that it makes; ``None`` if it cannot be read from here."""
    router, around = within
    ((router, _),) = router.by_router((element,), may_choose)
    around = router.context_for(around)
    found = router.read_again(element)
    return None if found is None else (router, router.context(found, element, around))
