"""Evaluate items of OTLP with the values that they inherit, and collect the outcome of a call.

The values of a resource and of a scope are evaluated once, then joined to the items. Records are
kept with their numbers, all else as counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, DROPS, Granted, Rejection, Tally
from collector.filter.admission import Admission, Bounds, encode_records
from collector.filter.otlp.attributes import (
    BODY,
    AttributeReader,
    AttributeValues,
    Signature,
    evaluate,
)
from collector.filter.plan import Plan, SenderInfo
from collector.schema.kinds import Canonical


class ItemCounts:
    """The outcomes of items, as counts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._admitted = 0
        self._rejected: Counter[Rejection] = Counter()
        self._drops: Counter[int] = Counter()
        self._content: Counter[int] = Counter()
        self._refusals = {column.codes["purpose_refused"] for column in plan.columns}

    def count(
        self,
        values: Sequence[Any],
        drops: Collection[int],
        content: int,
        *,
        has_own: bool = True,
    ) -> bool:
        """Count an item; return whether it is a record.

        ``values`` are canonical, ``drops`` are drop codes, and ``content`` has one bit for each
        category. ``has_own`` is false if all values come from the sender of the request.
        """
        for code in drops:
            self._drops[code] += 1
        is_refused = not self._refusals.isdisjoint(drops)
        rejection = self._plan.rejection(values, is_refused=is_refused, has_own=has_own)
        if rejection is None:
            self.count_records(content)
            return True
        self._rejected[rejection] += 1
        self._content[content] += 1
        return False

    def count_records(self, content: int, times: int = 1) -> None:
        """Count records of which nothing was dropped."""
        self._admitted += times
        self._content[content] += times

    def reject(self, reason: Rejection, times: int = 1) -> None:
        """Count elements that are no items, or that are not read."""
        self._rejected[reason] += times

    def tally(self) -> Tally:
        """Add everything up."""
        rejected = self._rejected
        tally = Tally(self._admitted + rejected.total(), self._admitted)
        tally.rejected.update({reason: times for reason, times in rejected.items() if times})
        for code, times in self._drops.items():
            column, reason = divmod(code, len(DROPS))
            counts = tally.dropped.setdefault(self._plan.columns[column].name, Counter())
            counts[DROPS[reason]] = times
        for bits, times in self._content.items():
            for index, category in enumerate(CATEGORIES):
                if bits >> index & 1:
                    tally.content[category] += times
        return tally


class OtlpBuilder(ItemCounts):
    """An admission under construction, in which identical records are one from the start."""

    def __init__(self, plan: Plan, record: type[msgspec.Struct]) -> None:
        super().__init__(plan)
        self._record = record
        self._records: dict[tuple[Any, ...], int] = {}

    def add_item(
        self,
        values: Sequence[Any],
        drops: Collection[int],
        content: int,
        *,
        has_own: bool = True,
    ) -> None:
        """Count an item, and add its record if it is one. Parameters as ``count``."""
        if self.count(values, drops, content, has_own=has_own):
            key = tuple(values)
            self._records[key] = self._records.get(key, 0) + 1

    def add_plain_item(self, values: tuple[Any, ...], content: int) -> None:
        """Add one item of which nothing was dropped, under a plan that requires nothing."""
        records, contents = self._records, self._content
        records[values] = records.get(values, 0) + 1
        contents[content] = contents.get(content, 0) + 1
        self._admitted += 1

    def finish(self, bytes_in: int, bounds: Bounds | None) -> Admission:
        """Encode the records, at the place of the first of each, and add the counts up."""
        record = self._record
        empty = self._records.pop((None,) * len(self._plan.columns), 0)
        self._admitted -= empty
        self.reject("nothing_admitted", empty)
        records = [
            record(*values) if times == 1 else record(*values, times)
            for values, times in self._records.items()
        ]
        encoded = encode_records(records, bounds)
        tally = self.tally()
        tally.bytes_in, tally.bytes_out = bytes_in, len(encoded)
        return Admission(records, encoded, tally, granted=self._plan.granted)


class OtlpBuilders:
    """The builders of one call: a single one, or one for each set of granted purposes."""

    def __init__(self, plan: Plan, record: type[msgspec.Struct], *, by_grant: bool) -> None:
        self._record = record
        self._by_grant = by_grant
        self._first = OtlpBuilder(plan, record)
        self._builders: dict[Granted, OtlpBuilder] = {plan.granted: self._first}

    def for_plan(self, plan: Plan) -> OtlpBuilder:
        """Return the builder for items that a plan reads."""
        if not self._by_grant:
            return self._first
        if plan.granted not in self._builders:
            self._builders[plan.granted] = OtlpBuilder(plan, self._record)
        return self._builders[plan.granted]

    def finish(self, bytes_in: int, bounds: Bounds | None) -> list[Admission]:
        """Finish every builder that has counted an item, or at least the first.

        The bytes are counted with the first admission.
        """
        admissions = [builder.finish(0, bounds) for builder in self._builders.values()]
        counted = [one for one in admissions if one.tally.received] or admissions[:1]
        counted[0].tally.bytes_in = bytes_in
        return counted


@dataclass(frozen=True, slots=True, repr=False)
class InheritedValues:
    """Attributes that hold for all items below, as they were found and as they are evaluated.

    ``found``, ``canonical`` and ``drops`` are per column: the value as it was found, its canonical
    form, and the code under which it is dropped. ``content`` has one bit per category.
    """

    found: list[Any]
    content: int
    agent: Any
    canonical: list[Any]
    drops: list[int | None]

    @property
    def codes(self) -> list[int]:
        """The codes of dropped fields."""
        return [code for code in self.drops if code is not None]


class ScopeBuilder:
    """Adds the items of one scope to a builder, with the values that they inherit.

    Most items hold only accepted texts, each for another column, and content. Where the scope
    ``is_plain``, the reader of a body evaluates these in its own loop and adds them with
    ``add_plain_item``; it hands all others over as signatures. ``slots`` has the columns of wanted
    names: those of content lie ``columns`` above their categories, and -1 stands for the rest.
    ``known`` and ``accept`` have the texts met before, and the kinds, by column. ``values`` and
    ``content`` are those that each item inherits.
    """

    def __init__(
        self,
        inheritance: Inheritance,
        reader: AttributeReader,
        builder: OtlpBuilder,
        outer: InheritedValues,
    ) -> None:
        columns = reader.plan.columns
        is_selective = outer.codes or reader.plan.required or reader.selections
        self.is_plain: bool = not is_selective
        self.wanted: AttributeReader = reader
        self.slots: dict[str, int] = reader.columns
        self.columns: int = len(columns)
        self.known: list[dict[Any, Any]] = [c.memo.known if c.memo else {} for c in columns]
        self.accept: list[Canonical] = [column.accept for column in columns]
        self.values: list[Any] = outer.canonical
        self.content: int = outer.content
        self.body: int = 1 << reader.plain[BODY] - len(columns)
        self.add_plain_item: Callable[[tuple[Any, ...], int], None] = builder.add_plain_item
        self._inheritance = inheritance
        self._builder = builder
        self._outer = outer
        self._evaluated: dict[Signature, tuple[list[Any], list[int], int]] = {}

    def add(self, signature: Signature | None) -> None:
        """Add an item of any kind; ``None`` is an element that is no item."""
        if signature is None:
            self._builder.reject("not_an_object")
            return
        found = self._evaluated.get(signature)
        if found is None:
            if not self.wanted.selects(signature):
                self._builder.reject("not_selected")
                return
            found = self._inheritance.evaluate(self._outer, signature)
            self._evaluated[signature] = found
        values, codes, content = found
        self._builder.add_item(values, codes, content)


class Inheritance:
    """The inherited values of one call, each evaluated once, and the evaluation of items."""

    def __init__(self, reader: AttributeReader) -> None:
        self._plan = plan = reader.plan
        self._reader = reader
        nothing: list[Any] = [None] * len(plan.columns)
        self._top = InheritedValues(nothing, 0, None, nothing, nothing)
        self._known: dict[tuple[Signature, Signature], InheritedValues] = {}

    def of_scope(self, resource: Signature, scope: Signature) -> InheritedValues:
        """Return the values that the items of a scope in a resource inherit."""
        known = self._known.get((resource, scope))
        if known is None:
            outer = self._extend(self._top, self._reader.values(resource))
            known = self._extend(outer, self._reader.values(scope)) if scope else outer
            self._known[resource, scope] = known
        return known

    def _extend(self, outer: InheritedValues, own: AttributeValues) -> InheritedValues:
        """Return inherited values with own ones in their place, column by column."""
        found = list(outer.found)
        for index, value in own.values.items():
            found[index] = value
        agent = outer.agent if own.agent is None else own.agent
        derived = self._plan.derive(list(found), agent)
        canonical: list[Any] = [None] * len(found)
        drops: list[int | None] = [None] * len(found)
        for column in self._plan.columns:
            value = derived[column.index]
            if value is not None:
                canonical[column.index], reason = evaluate(column, value)
                if reason is not None:
                    drops[column.index] = column.codes[reason]
        return InheritedValues(found, outer.content | own.content, agent, canonical, drops)

    def scope_builder(self, builder: OtlpBuilder, outer: InheritedValues) -> ScopeBuilder:
        """Return what adds the items of a scope to a builder."""
        return ScopeBuilder(self, self._reader, builder, outer)

    def evaluate(
        self, outer: InheritedValues, signature: Signature
    ) -> tuple[list[Any], list[int], int]:
        """Return the canonical values, drop codes and content of an item."""
        own = self._reader.values(signature)
        return *self.evaluate_item(outer, own), outer.content | own.content

    def evaluate_item(
        self, outer: InheritedValues, own: AttributeValues
    ) -> tuple[list[Any], list[int]]:
        """Return the canonical values and drop codes of an item."""
        if own.agent is not None:
            extended = self._extend(outer, own)
            return extended.canonical, extended.codes
        if own.values:
            return self._override(outer, own.values)
        return outer.canonical, outer.codes

    def _override(
        self, outer: InheritedValues, values: Mapping[int, Any]
    ) -> tuple[list[Any], list[int]]:
        """Return inherited canonical values and drop codes, replaced where an item has its own."""
        canonical = outer.canonical.copy()
        drops = outer.drops.copy()
        columns = self._plan.columns
        for index, value in values.items():
            canonical[index], reason = evaluate(columns[index], value)
            drops[index] = None if reason is None else columns[index].codes[reason]
        return canonical, [code for code in drops if code is not None]

    def add_only_item(
        self, builder: OtlpBuilder, outer: InheritedValues, signature: Signature, sender: SenderInfo
    ) -> None:
        """Add the only item of a request, completed by sender values."""
        if not self._reader.selects(signature):
            builder.reject("not_selected")
            return
        item = self._extend(outer, self._reader.values(signature))
        canonical, codes = list(item.canonical), item.codes
        has_own = canonical.count(None) < len(canonical)
        found = self._plan.derive(list(item.found), item.agent)
        for column, value in self._plan.sender_values(found, item.agent, sender):
            canonical[column.index], reason = evaluate(column, value)
            if reason is not None:
                codes.append(column.codes[reason])
        builder.add_item(canonical, codes, item.content, has_own=has_own)
