"""What a filter call collects on its way: records, and counts as small numbers.

The hot path only appends to lists; ``Draft.finish`` adds them up once, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, DROPS, Granted, Rejection, Tally
from collector.filter.admission import Admission, Verdict
from collector.filter.compile import Fills, Plan

__all__ = ["Draft", "record_type"]

_encode_lines = msgspec.json.Encoder().encode_lines


def record_type(plan: Plan) -> type[msgspec.Struct]:
    """A flat struct: ``schema`` as its tag, then the fields; what is absent is left out."""
    return msgspec.defstruct(
        "Record",
        [*((f"c{column.index}", Any, None) for column in plan.columns), ("count", Any, None)],
        rename={f"c{column.index}": column.name for column in plan.columns},
        tag_field="schema",
        tag=plan.schema_id,
        omit_defaults=True,
        frozen=True,
        gc=False,
    )


@dataclass(slots=True, repr=False)
class Draft:
    """An admission in the making."""

    plan: Plan
    record: type[msgspec.Struct]
    records: list[Any] = field(default_factory=list)
    drops: list[int] = field(default_factory=list)
    content: list[int] = field(default_factory=lambda: [0] * len(CATEGORIES))
    rejected: list[Rejection] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    """Numbers of events in documents that hold too many of them: ``too_large``."""
    fills: Fills | None = None
    """What the request says for its only event, if it has but one."""
    is_apart: bool = False
    """Whether records are to be told apart by what is granted."""
    _drafts: dict[Granted, Draft] = field(default_factory=dict)

    def under(self, plan: Plan) -> Draft:
        """The draft of this call for events that another plan takes: the same one, unless what is
        granted is to be told apart."""
        drafts = self._drafts
        if not drafts:
            drafts[self.plan.granted] = self
        draft = drafts.get(plan.granted)
        if draft is None:
            draft = drafts[plan.granted] = replace(self, plan=plan)
            if self.is_apart:
                draft.records, draft.drops, draft.rejected, draft.unread = [], [], [], []
                draft.content = [0] * len(CATEGORIES)
        return draft

    @property
    def all(self) -> list[Draft]:
        """The drafts of this call."""
        return list(self._drafts.values()) if self.is_apart and self._drafts else [self]

    @property
    def received(self) -> int:
        """The events of the call so far."""
        return sum(draft.number for draft in self.all)

    @property
    def number(self) -> int:
        """The events so far that are counted here."""
        return len(self.records) + len(self.rejected) + sum(self.unread)

    def settle(self, values: Iterable[Any], content: Iterable[int], agent: Any) -> None:
        """One event, from the value (or mark) found for each column; ``None`` is absence, and
        leaves the column to what the user agent says, then to what the request says. A record
        needs at least one value of the event's own."""
        for category in content:
            self.content[category] += 1
        found = self.plan.derive(values, agent)
        kept, withheld = self.judge(found)
        has_own = kept.count(None) < len(kept)
        if self.fills is not None:
            for column, value in self.plan.fill(found, agent, self.fills):
                kept[column.index], reason = column.judge(value)
                if reason is not None:
                    self.drops.append(column.codes[reason])
        if any(kept[index] is None for index in self.plan.required):
            self.rejected.append("missing_required")
        elif has_own:
            self.records.append(self.record(*kept))
        else:
            self.rejected.append("consent_withheld" if withheld else "nothing_admitted")

    def judge(self, values: Iterable[Any]) -> tuple[list[Any], bool]:
        """The canonical values, and whether a purpose was refused; counts what is dropped."""
        kept: list[Any] = []
        refused = False
        for column, value in zip(self.plan.columns, values, strict=True):
            if value is None:
                kept.append(None)
                continue
            result, reason = column.judge(value)
            if reason is not None:
                self.drops.append(column.codes[reason])
                refused = refused or reason == "purpose_refused"
            kept.append(result)
        return kept, refused

    def finish_all(self, bytes_in: int, merge: bool) -> list[Admission]:
        """All drafts of the call, finished, of which each has something to count; at least one. The
        bytes are counted with the first."""
        drafts = [draft for draft in self.all if draft.number] or [self]
        first, *others = drafts
        return [first.finish(bytes_in, merge), *(draft.finish(0, merge) for draft in others)]

    def finish(self, bytes_in: int, merge: bool) -> Admission:
        """Encode the records, and add everything up or, of a single event, say what there is."""
        received, admitted = self.number, len(self.records)
        if merge:
            self._merge()
        encoded = bytes(_encode_lines(self.records))
        if received == 1:
            verdict = self._verdict()
            return Admission(self.records, encoded, None, verdict, bytes_in, self.plan.granted)
        tally = Tally(received, admitted, bytes_in=bytes_in, bytes_out=len(encoded))
        self._count(tally)
        return Admission(self.records, encoded, tally, granted=self.plan.granted)

    def _verdict(self) -> Verdict:
        """What is to be counted of the only event."""
        rejected = None if self.records else self.rejected[0] if self.rejected else "too_large"
        met = zip(CATEGORIES, self.content, strict=True) if any(self.content) else ()
        content = [category for category, times in met if times]
        drops = [
            (self.plan.columns[code // len(DROPS)].name, DROPS[code % len(DROPS)])
            for code in self.drops
        ]
        return rejected, tuple(content), tuple(drops)

    def _count(self, tally: Tally) -> None:
        """What was refused, dropped and met. Counters are dear: most calls have little to count."""
        if self.rejected:
            tally.rejected.update(self.rejected)
        if self.unread:
            tally.rejected["too_large"] += sum(self.unread)
        if self.drops:
            for code, times in Counter(self.drops).items():
                column, reason = divmod(code, len(DROPS))
                counts = tally.dropped.setdefault(self.plan.columns[column].name, Counter())
                counts[DROPS[reason]] = times
        for category, times in zip(CATEGORIES, self.content, strict=True):
            if times:
                tally.content[category] = times

    def _merge(self) -> None:
        """Identical records become one with their number, at the place of the first."""
        self.records = [
            record if times == 1 else msgspec.structs.replace(record, count=times)
            for record, times in Counter(self.records).items()
        ]
