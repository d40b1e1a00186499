"""Route payloads to events: lines, documents, lists of records, mappings, each into a builder.

Everything is checked in one order, so that every path gives the same verdict: size, UTF-8, depth,
syntax, then the event itself. Everything that would multiply memory when decoded is counted first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from collector.contracts import DROPS, Granted, Rejection
from collector.filter.admission import Admission, AdmissionBuilder, Bounds, record_type
from collector.filter.compile import EventValues, Plan, SenderInfo
from collector.filter.event_consent import EventConsent
from collector.filter.generate import (
    AddTexts,
    AdmitDocument,
    OuterValues,
    RecordDocuments,
    fast_document,
    fast_path,
    only_tolerant,
    record_documents,
)
from collector.filter.mapping import AdmitMapping, MappingReader, fast_mapping, unsupported
from collector.filter.records import (
    MAX_ITEMS,
    OBJECTS,
    TEXTS,
    NestedRecords,
    at_most,
    find_records,
    groups_within,
    may_be_typed,
    records_in_list,
)
from collector.filter.text import (
    BOM,
    is_blank,
    is_list,
    is_utf8,
    name_search,
    readable_lines,
    refusal,
)
from collector.filter.tolerant import FAILURES, TolerantReader

if TYPE_CHECKING:
    from collector.filter.otlp import OtlpFilter
    from collector.filter.sdk_records import SdkRecordFilter

_Text = bytes | memoryview
Narrow = Callable[[Granted, frozenset[str]], "EventRouter"]
"""``narrow(granted, refused)``: the router for the granted purposes without the refused ones."""


class EventRouter:
    """Reads payloads for one plan, and chooses the path of each: fast, tolerant, or mapping.

    Where events carry ``consent``, another plan may read an event: ``narrow`` returns its router.
    """

    def __init__(
        self, plan: Plan, consent: EventConsent | None = None, narrow: Narrow | None = None
    ) -> None:
        self.plan = plan
        self.consent = consent
        self._narrow = narrow
        self._narrowed: dict[frozenset[str], EventRouter] = {frozenset(): self}
        self._record = record_type(plan)
        self._tolerant_reader = TolerantReader(plan)
        self._mapping_reader = MappingReader(plan)
        self._admit_document: AdmitDocument | None = None
        self._documents = cache(self._make_documents)
        self._nested = NestedRecords(plan)
        self.admit_mapping: AdmitMapping
        self._add_texts, self.admit_mapping = self._fast_paths()

    def _fast_paths(self) -> tuple[Mapping[int | None, AddTexts], AdmitMapping]:
        """Generate the fast paths of JSON texts, by the selection that they must meet, and of a
        mapping.

        They are made at once: an event emitted in a signal handler must not wait for them.
        """
        plan = self.plan
        lists = {way.selection for way in plan.records if way.paths}
        selections = lists if plan.records else {plan.selection}
        if plan.reads_below_content:
            return dict.fromkeys(selections, only_tolerant), unsupported
        texts = {selection: fast_path(plan, selection) for selection in selections}
        return texts, fast_mapping(plan, self._record)

    @cached_property
    def _may_hold_content(self) -> Callable[[bytes], bool]:
        return name_search(name for name, _ in self.plan.content)

    @cached_property
    def _no_outer_values(self) -> OuterValues:
        nothing = EventValues([None] * len(self.plan.columns), frozenset(), None, [])
        return self.outer_values(nothing, None)

    def _make_documents(self, content: bool) -> RecordDocuments | None:
        """Generate the fast path of documents, with names of content or for texts without any.

        Names that are looked for in vain would take half of the decoder's time.
        """
        plan = self.plan if content else replace(self.plan, content=())
        return None if plan.reads_below_content else record_documents(plan)

    def admit_document(self, text: bytes) -> Admission | None:
        """Admit one valid UTF-8 text whose choices this router grants, if it is a usual event.

        ``None`` leaves it to the other paths.
        """
        if self._admit_document is None:  # most processes never use it
            is_usual = not self.plan.reads_below_content
            self._admit_document = (
                fast_document(self.plan, self._record) if is_usual else unsupported
            )
        return self._admit_document(text)

    def builder(
        self,
        sender: SenderInfo | None = None,
        *,
        by_grant: bool = False,
        bounds: Bounds | None = None,
    ) -> AdmissionBuilder:
        """Make an empty builder; one with ``sender`` only for ``tolerant`` and a single event."""
        return AdmissionBuilder(
            self.plan, self._record, sender=sender, by_grant=by_grant, bounds=bounds
        )

    @cached_property
    def admit_without_consent(self) -> AdmitMapping:
        """``admit_mapping`` for mappings without choices; it leaves all others."""
        if self.plan.reads_below_content:
            return unsupported
        return fast_mapping(self.plan, self._record, defers_on_consent=True)

    @cached_property
    def tolerant(self) -> EventRouter:
        """The same router without its fast paths, which do not know sender values."""
        return TolerantRouter(
            self.plan, self.consent, lambda _, refused: self.without(refused).tolerant
        )

    @cached_property
    def otlp(self) -> OtlpFilter:
        """The same plan for OpenTelemetry data."""
        from collector.filter.otlp import (  # noqa: PLC0415 - most processes never use it
            AttributeConsent,
            OtlpFilter,
        )

        if self.consent is None:
            return OtlpFilter(self.plan)
        consent = AttributeConsent(self.plan, self.consent.optional)
        return OtlpFilter(self.plan, consent, lambda refused: self.without(refused).otlp)

    @cached_property
    def sdk_records(self) -> SdkRecordFilter:
        """The same plan for records that a filter has made already."""
        from collector.filter.sdk_records import SdkRecordFilter  # noqa: PLC0415 - as above

        return SdkRecordFilter(self.plan)

    def add_lines(self, text: bytes, builder: AdmissionBuilder) -> None:
        """Add every line that is not blank as one event."""
        is_valid = is_utf8(text)
        lines = readable_lines(text, builder.rejected.append, is_valid=is_valid)
        self._add_payloads(text if is_valid else None, lines, builder)

    def add_document(self, text: _Text, builder: AdmissionBuilder) -> None:
        """Add one JSON text: an object is one event, an array is many."""
        if text[: len(BOM)] == BOM:
            text = memoryview(text)[len(BOM) :]
        reason = refusal(text)
        if reason is not None:
            builder.rejected.append(reason)
        elif not is_list(text):
            self._add_payloads(text, (text,), builder, blank_counts=True)
        else:
            elements = records_in_list(text, builder, MAX_ITEMS)
            self._add_payloads(text, elements, builder, blank_counts=True)

    def _add_payloads(
        self,
        text: _Text | None,
        payloads: Iterable[Any],
        builder: AdmissionBuilder,
        blank_counts: bool = False,
    ) -> None:
        """Add the payloads of a text, which is valid UTF-8 if it is given."""
        for router, group in self.by_router(payloads, self.may_choose(text)):
            its_builder = builder.for_plan(router.plan)
            if self.plan.records:
                for payload in group:
                    router.add_record_document(payload, its_builder, blank_counts)
            else:
                router.add_texts(group, its_builder, None, blank_counts, self.plan.selection)

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

    def add_texts(
        self,
        payloads: Iterable[Any],
        builder: AdmissionBuilder,
        outer: OuterValues | None,
        blank_counts: bool,
        selection: int | None,
    ) -> None:
        """Add events as JSON texts whose choices this router grants, if they meet a selection."""
        add_tolerantly = partial(self._add_tolerantly, builder, outer, blank_counts, selection)
        self._add_texts[selection](payloads, builder, outer, add_tolerantly)

    def _add_tolerantly(
        self,
        builder: AdmissionBuilder,
        outer: OuterValues | None,
        blank_counts: bool,
        selection: int | None,
        payload: Any,
    ) -> None:
        """Add one event whose types the fast path refused."""
        found = self._read(payload, builder, blank_counts)
        if found is not None:
            builder.add_found(found, found[:3] if outer is None else outer.merge(found), selection)

    def _read(
        self, payload: Any, builder: AdmissionBuilder, blank_counts: bool
    ) -> EventValues | None:
        """Read a payload; ``None`` if it is counted as rejected, or blank."""
        if not blank_counts and is_blank(payload):
            return None
        found = self._tolerant_reader.read(payload)
        if isinstance(found, EventValues):
            return found
        builder.rejected.append(found)
        return None

    def add_record_document(
        self, payload: Any, builder: AdmissionBuilder, blank_counts: bool
    ) -> None:
        """Add the records of a document; each is an event, and may carry choices of its own.

        The records of one JSON text count together, however many documents it holds.
        """
        limit = MAX_ITEMS - (builder.received if blank_counts else 0)
        if self._add_typed_document(payload, builder, limit):
            return
        found = self._read(payload, builder, blank_counts)
        if found is None:
            return
        level, records = find_records(found, builder, TEXTS, limit)
        if level is None:
            return
        if not level.paths:
            self._add_tolerantly(builder, None, blank_counts, level.selection, payload)
        elif records:
            outer, may_choose = self.outer_values(found, payload), self.may_choose(payload)
            if level.below is None:
                self.add_group(records, builder, outer, level.selection, may_choose)
                return
            groups = self._nested.groups(level, records, TEXTS, builder, limit)
            for within, texts in groups_within(groups, (self, outer), partial(_enter, may_choose)):
                if within is None:
                    builder.for_plan(self.plan).rejected += ["too_deep"] * len(texts)
                else:
                    within[0].add_group(texts, builder, within[1], level.selection, may_choose)

    def add_group(
        self,
        records: list[Any],
        builder: AdmissionBuilder,
        outer: OuterValues,
        selection: int | None,
        may_choose: bool,
    ) -> None:
        """Add records of one list as JSON texts, with the values of all that is around them."""
        for router, texts in self.by_router(records, may_choose):
            its_builder, its_outer = builder.for_plan(router.plan), router.outer_for(outer)
            router.add_texts(texts, its_builder, its_outer, True, selection)

    def _add_typed_document(self, payload: Any, builder: AdmissionBuilder, limit: int) -> bool:
        """Add the records of a document whose types are all right, and that is small.

        Returns whether it was one; its records carry no choices.
        """
        if not may_be_typed(memoryview(payload)):
            return False
        text = bytes(payload)
        if self.consent is not None and self.consent.may_occur_in(text):
            return False
        documents = self._documents(self._may_hold_content(text))
        if documents is None:
            return False
        records: list[Any] | None
        try:
            records, found = documents.read(text)
        except FAILURES:
            records = None
        if records is None:
            return False
        chosen = at_most(limit, len(records), records, builder)
        if chosen:
            outer = self._no_outer_values
            if any(value is not None for value in (*found.values, found.agent)) or found.content:
                outer = self.outer_values(found, None)
            documents.add(chosen, builder, outer, _leave)
        return True

    def outer_for(self, outer: OuterValues) -> OuterValues:
        """Return under this plan what another plan has read of a document around records."""
        by_grant, granted = outer.by_grant, self.plan.granted
        if granted not in by_grant:
            found = cast("EventValues", self.read_outer(outer.document))
            around = None if outer.around is None else self.outer_for(outer.around)
            if around is not None:
                found = EventValues(*around.merge(found), [])
            by_grant[granted] = self.outer_values(found, outer.document, around)
        return by_grant[granted]

    def read_outer(self, document: Any) -> EventValues | Rejection:
        """Read what is around records: JSON text or a Python object."""
        is_python = type(document) in (dict, list, tuple)
        return (self._mapping_reader if is_python else self._tolerant_reader).read(document)

    def outer_values(
        self, found: EventValues, document: Any, around: OuterValues | None = None
    ) -> OuterValues:
        """Evaluate the values of a document once for all of its records."""
        builder = self.builder()
        canonical, _ = builder.evaluate(found.values)
        drops = {code // len(DROPS): code for code in builder.drops}
        codes = tuple(drops.get(index) for index in range(len(canonical)))
        outer = OuterValues(
            tuple(found.values),
            tuple(canonical),
            codes,
            found.content,
            found.agent,
            document,
            around,
        )
        outer.by_grant[self.plan.granted] = outer
        return outer

    def add_mapping(self, event: dict[Any, Any], builder: AdmissionBuilder) -> None:
        """Add one event that is a dictionary, or a dictionary that holds records."""
        router = self.router_for(event)
        router.add_granted_mapping(event, builder.for_plan(router.plan))

    def add_granted_mapping(self, event: dict[Any, Any], builder: AdmissionBuilder) -> None:
        """Add a dictionary whose own choices this router grants."""
        found = self._mapping_reader.read(event)
        if not self.plan.records:
            builder.add_found(found, found[:3], self.plan.selection)
            return
        level, records = find_records(found, builder, OBJECTS, MAX_ITEMS)
        if level is None:
            return
        if not level.paths:
            builder.add_found(found, found[:3], level.selection)
        elif records:
            outer = self.outer_values(found, event)
            groups = self._nested.groups(level, records, OBJECTS, builder, MAX_ITEMS)
            for within, group in groups_within(groups, (self, outer), partial(_enter, True)):
                if within is not None:
                    within[0].add_mappings(group, builder, within[1], level.selection)

    def add_mappings(
        self,
        records: list[Any],
        builder: AdmissionBuilder,
        outer: OuterValues,
        selection: int | None,
    ) -> None:
        """Add the elements of a Python list."""
        for record in records:
            if self._mapping_reader.reads(record):
                router = self.router_for(record)
                its_builder = builder.for_plan(router.plan)
                router.add_granted_record(record, its_builder, router.outer_for(outer), selection)
            else:
                builder.rejected.append("not_an_object")

    def add_granted_record(
        self, record: Any, builder: AdmissionBuilder, outer: OuterValues, selection: int | None
    ) -> None:
        """Add a record of a dictionary, whose choices this router grants."""
        found = self._mapping_reader.read(record)
        builder.add_found(found, outer.merge(found), selection)


def _enter(
    may_choose: bool, around: tuple[EventRouter, OuterValues], element: Any
) -> tuple[EventRouter, OuterValues] | None:
    """Return the router that the choices of an element require within that of what is around it,
    and the values of both; ``None`` if it cannot be read from here."""
    router, outer = around
    ((router, _),) = router.by_router((element,), may_choose)
    outer = router.outer_for(outer)
    found = router.read_outer(element)
    if not isinstance(found, EventValues):
        return None
    return router, router.outer_values(EventValues(*outer.merge(found), []), element, outer)


def _leave(_payload: Any) -> None:
    """Do nothing: a record that was decoded with its document is left to no other path."""


class TolerantRouter(EventRouter):
    """Reads every event on the tolerant path."""

    def _add_typed_document(self, payload: Any, builder: AdmissionBuilder, limit: int) -> bool:
        return False

    def _fast_paths(self) -> tuple[Mapping[int | None, AddTexts], AdmitMapping]:
        return defaultdict(lambda: only_tolerant), unsupported
