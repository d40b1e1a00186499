"""Filter OpenTelemetry logs, traces and metrics: records come from attributes, and nothing else.

An event is a log record, a span or a data point of a metric; its members are its attributes, those
of its scope and those of its resource. ``OtlpFilter`` turns a body into an admission, for one plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from collector.contracts import Granted, Record, Rejection, Signal
from collector.filter.admission import Admission, AdmissionBuilder, Bounds, record_type
from collector.filter.event_consent import EventConsent
from collector.filter.judge import Context, sender_context
from collector.filter.otlp.attributes import ItemConsent, RefusedPurposes, plan_of_items
from collector.filter.otlp.body import BodyRejected, OtlpBody
from collector.filter.otlp.items import ItemBatch
from collector.filter.otlp.json_body import JsonBody
from collector.filter.otlp.protobuf_body import ProtobufBody
from collector.filter.plan import ITEMS, Plan, SenderInfo
from collector.filter.reader import Reader
from collector.filter.records import MAX_ITEMS
from collector.filter.text import MAX_DOCUMENT
from collector.turns import in_turns

Narrow = Callable[[frozenset[str]], "OtlpFilter"]
"""``narrow(refused)``: the filter without the refused purposes."""

_T = TypeVar("_T")
_Resources = dict[Granted, tuple[Any, Context]]
"""For each plan, by its granted purposes, the last resource that it read, with its context."""


class OtlpFilter:
    """Filters OTLP bodies for a plan. Safe to use from several threads.

    ``consent`` reads choices, if the schema says where they are; ``narrow`` returns the filter
    without the purposes that they refuse.
    """

    def __init__(
        self, plan: Plan, consent: EventConsent | None = None, narrow: Narrow | None = None
    ) -> None:
        self.plan = plan
        self.reader: Reader = Reader(plan_of_items(plan), record_type(plan), str)
        self._consent = None if consent is None else ItemConsent(plan, consent)
        self._narrow = narrow

    def __repr__(self) -> str:
        return f"<OtlpFilter of {self.plan.schema_id}>"

    def admit(
        self,
        signal: Signal,
        body: bytes | memoryview,
        *,
        protobuf: bool,
        sender: SenderInfo | None,
        by_grant: bool = False,
        bounds: Bounds | None = None,
    ) -> list[Admission]:
        """Filter one body; merge identical records.

        Returns one admission, or with ``by_grant`` one for each set of granted purposes.
        ``sender`` is used if the body has one item. Raises ``ConfigError`` E201 if protobuf is
        needed and not installed, and ``InputError`` E416 beyond ``bounds``.
        """
        rejection: BodyRejected | None = None
        builder = AdmissionBuilder(self.plan, by_grant=by_grant, bounds=bounds)
        try:
            decoded = self._decode(signal, body, protobuf)
            builder.expect(decoded.item_count)
            builder.sender = sender if decoded.item_count == 1 else None
            self._add_body(builder, decoded, body)
        except BodyRejected as error:
            rejection = BodyRejected(error.reason, error.times)
        if rejection is not None:
            builder = AdmissionBuilder(self.plan)
            if rejection.reason == "too_large":
                builder.add_oversized(rejection.times)
            else:
                builder.rejected.append(rejection.reason)
        return builder.finish_all(len(body), merge=True)

    def items(self, make: Callable[[Record], _T]) -> ItemBatch[_T]:
        """Make an empty batch for items that are Python objects already."""
        return ItemBatch(
            self.plan,
            self.reader,
            make,
            self._consent,
            lambda refused: (self.without(refused).plan, self.without(refused).reader),
        )

    def without(self, refused: RefusedPurposes) -> OtlpFilter:
        """Return the filter for items that refuse these purposes."""
        return self if refused is None or self._narrow is None else self._narrow(refused)

    def _add_body(
        self, builder: AdmissionBuilder, decoded: OtlpBody, body: bytes | memoryview
    ) -> None:
        last: _Resources = {}
        for refused, (resource, scope, items) in self._scopes(decoded, body):
            filter_ = self.without(refused)
            its_builder = builder.for_plan(filter_.plan)
            outcome = its_builder.records, its_builder.notes, its_builder.rejected
            around = filter_.context(decoded, resource, scope, builder.sender, last)
            judge = filter_.reader.judge("records", ITEMS)
            judge(filter_.events(decoded, items, its_builder.rejected), *outcome, around)

    def context(
        self,
        decoded: OtlpBody,
        resource: Any,
        scope: Any,
        sender: SenderInfo | None,
        last: _Resources,
    ) -> Context:
        """Return the context of a scope's items; cache that of the ``last`` resource."""
        reader = self.reader
        known = last.get(self.plan.granted)
        if known is None or known[0] is not resource:
            members = decoded.outer_members(resource, reader)
            around = sender_context(self.plan, sender)
            if members:
                around = reader.surround(reader.of_object(members), around, None)
            known = last[self.plan.granted] = resource, around
        members = decoded.outer_members(scope, reader)
        if not members:
            return known[1]
        return reader.surround(reader.of_object(members), known[1], None)

    def events(
        self, decoded: OtlpBody, items: Iterable[Any], rejected: list[Rejection]
    ) -> Iterator[Any]:
        """Yield items as events; count elements that are not items."""
        reader = self.reader
        for item in in_turns(items):
            members = decoded.item_members(item, reader)
            if members is None:
                rejected.append("not_an_object")
            else:
                yield reader.of_object(members)

    def _scopes(
        self, decoded: OtlpBody, body: bytes | memoryview
    ) -> Iterable[tuple[RefusedPurposes, tuple[Any, Any, Iterable[Any]]]]:
        """Yield the items of each scope, by the purposes that they refuse."""
        if self._consent is None or not self._consent.may_occur_in(body):
            return ((None, scope) for scope in decoded.scopes())
        return decoded.scopes_by_consent(self._consent)

    def _decode(self, signal: Signal, body: bytes | memoryview, protobuf: bool) -> OtlpBody:
        if len(body) > MAX_DOCUMENT:
            raise BodyRejected("too_large")
        decoded = ProtobufBody(signal, bytes(body)) if protobuf else JsonBody(signal, body)
        if decoded.item_count > MAX_ITEMS:
            raise BodyRejected("too_large", decoded.item_count)
        return decoded
