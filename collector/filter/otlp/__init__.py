"""Filter OpenTelemetry logs, traces and metrics: records come from attributes, and nothing else.

An event is a log record, a span or a data point of a metric; its members are its attributes, those
of its scope and those of its resource. A body in, an admission out, for one plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from collector.contracts import Granted, Record, Signal
from collector.filter.admission import Admission, Bounds, record_type
from collector.filter.compile import Plan, SenderInfo
from collector.filter.otlp.attributes import AttributeConsent, AttributeReader, RefusedPurposes
from collector.filter.otlp.body import BodyRejected, OtlpBody
from collector.filter.otlp.evaluation import Inheritance, OtlpBuilders
from collector.filter.otlp.items import ItemBatch
from collector.filter.otlp.json_body import JsonBody
from collector.filter.otlp.protobuf_body import ProtobufBody
from collector.filter.records import MAX_ITEMS
from collector.filter.text import MAX_DOCUMENT

__all__ = ["AttributeConsent", "OtlpFilter"]

Narrow = Callable[[frozenset[str]], "OtlpFilter"]
"""``narrow(refused)``: the filter without the refused purposes."""

_T = TypeVar("_T")


class OtlpFilter:
    """Filters OTLP bodies for a plan. Safe to use from several threads.

    ``consent`` reads choices, if the schema says where they are; ``narrow`` returns the filter
    without the purposes that they refuse.
    """

    def __init__(
        self, plan: Plan, consent: AttributeConsent | None = None, narrow: Narrow | None = None
    ) -> None:
        self.plan = plan
        self.reader: AttributeReader = AttributeReader(plan)
        self._consent = consent
        self._narrow = narrow
        self._record: type[msgspec.Struct] = record_type(plan)

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
        """Filter one body, in which identical records become one.

        Returns one admission, or with ``by_grant`` one for each set of granted purposes.
        ``sender`` is used if the body has one item. Raises ``ConfigError`` E201 if protobuf is
        needed and not installed, and ``InputError`` E416 beyond ``bounds``.
        """
        rejected, builders = None, OtlpBuilders(self.plan, self._record, by_grant=by_grant)
        try:
            decoded = self._decode(signal, body, protobuf)
            if bounds is not None:
                bounds.check(decoded.item_count)
            self._add_body(builders, decoded, body, sender=sender)
        except BodyRejected as error:
            rejected = error.reason, error.times
        if rejected is not None:
            builders = OtlpBuilders(self.plan, self._record, by_grant=by_grant)
            builders.for_plan(self.plan).reject(*rejected)
        return builders.finish(len(body), bounds)

    def items(self, make: Callable[[Record], _T]) -> ItemBatch[_T]:
        """Make an empty batch for items that are Python objects already."""
        return ItemBatch(
            self.reader, make, self._consent, lambda refused: self.without(refused).reader
        )

    def without(self, refused: RefusedPurposes) -> OtlpFilter:
        """Return the filter for items that refuse these purposes."""
        return self if refused is None or self._narrow is None else self._narrow(refused)

    def _add_body(
        self,
        builders: OtlpBuilders,
        decoded: OtlpBody,
        body: bytes | memoryview,
        *,
        sender: SenderInfo | None,
    ) -> None:
        inheritances: dict[Granted, Inheritance] = {}
        for refused, (resource, scope, items) in self._scopes(decoded, body):
            filter_ = self.without(refused)
            builder, reader = builders.for_plan(filter_.plan), filter_.reader
            granted = filter_.plan.granted
            inheritance = inheritances.get(granted)
            if inheritance is None:
                inheritance = inheritances[granted] = Inheritance(reader)
            outer = inheritance.of_scope(
                decoded.outer_signature(resource, reader), decoded.outer_signature(scope, reader)
            )
            if sender is not None and decoded.item_count == 1:
                for signature in (decoded.item_signature(item, reader) for item in items):
                    if signature is None:
                        builder.reject("not_an_object")
                    else:
                        inheritance.add_only_item(builder, outer, signature, sender)
            else:
                decoded.add_items(items, inheritance.scope_builder(builder, outer))

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
