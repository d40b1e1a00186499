"""What a call of OTLP collects: records with their numbers, and everything else as counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from collector.contracts import CATEGORIES, DROPS, Granted, Rejection, Tally
from collector.filter.admission import Admission
from collector.filter.compile import Plan

__all__ = ["Account", "Accounts", "Counts"]

_encode_lines = msgspec.json.Encoder().encode_lines


class Counts:
    """What becomes of items, as counts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._admitted = 0
        self._rejected: Counter[Rejection] = Counter()
        self._drops: Counter[int] = Counter()
        self._content: Counter[int] = Counter()
        self._refusals = {column.codes["purpose_refused"] for column in plan.columns}

    def is_record(
        self,
        kept: Sequence[Any],
        drops: Collection[int],
        content: int,
        times: int = 1,
        *,
        has_own: bool = True,
    ) -> bool:
        """Count so many items with these canonical values, drop codes and categories of content (a
        bit for each), and say whether they are records.

        Without a value of its own (``has_own``) an item is none.
        """
        for code in drops:
            self._drops[code] += times
        if any(kept[index] is None for index in self._plan.required):
            self._rejected["missing_required"] += times
        elif has_own and kept.count(None) < len(kept):
            self.count(content, times)
            return True
        elif self._refusals.isdisjoint(drops):
            self._rejected["nothing_admitted"] += times
        else:
            self._rejected["consent_withheld"] += times
        self._content[content] += times
        return False

    def count(self, content: int, times: int = 1) -> None:
        """So many records, of which nothing was dropped."""
        self._admitted += times
        self._content[content] += times

    def reject(self, reason: Rejection, times: int = 1) -> None:
        """So many items that are none, or that are not looked at."""
        self._rejected[reason] += times

    def tally(self) -> Tally:
        """All of it, added up."""
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


class Account(Counts):
    """An admission in the making. Identical records are one from the start."""

    def __init__(self, plan: Plan, record: type[msgspec.Struct]) -> None:
        super().__init__(plan)
        self._record = record
        self._records: dict[tuple[Any, ...], int] = {}

    def settle(
        self,
        kept: Sequence[Any],
        drops: Collection[int],
        content: int,
        times: int,
        *,
        has_own: bool = True,
    ) -> None:
        """So many items, which become records if they are any."""
        if self.is_record(kept, drops, content, times, has_own=has_own):
            values = tuple(kept)
            self._records[values] = self._records.get(values, 0) + times

    def admit(self, values: tuple[Any, ...], content: int, times: int) -> None:
        """So many records."""
        self._records[values] = self._records.get(values, 0) + times
        self._admitted += times
        self._content[content] += times

    def finish(self, bytes_in: int) -> Admission:
        """Encode the records, at the place of the first of each, and add everything up."""
        record = self._record
        records = [
            record(*values) if times == 1 else record(*values, times)
            for values, times in self._records.items()
        ]
        encoded = bytes(_encode_lines(records))
        tally = self.tally()
        tally.bytes_in, tally.bytes_out = bytes_in, len(encoded)
        return Admission(records, encoded, tally, granted=self._plan.granted)


class Accounts:
    """The accounts of one call: one for all, or with ``apart`` one for each set of purposes that
    is granted."""

    def __init__(self, plan: Plan, record: type[msgspec.Struct], *, apart: bool) -> None:
        self._record = record
        self._apart = apart
        self._first = Account(plan, record)
        self._all: dict[Granted, Account] = {plan.granted: self._first}

    def of(self, plan: Plan) -> Account:
        """The account for items that a plan takes."""
        if not self._apart:
            return self._first
        if plan.granted not in self._all:
            self._all[plan.granted] = Account(plan, self._record)
        return self._all[plan.granted]

    def finish(self, bytes_in: int) -> list[Admission]:
        """All of them, finished, that have something to count; at least one. The bytes are counted
        with the first."""
        admissions = [account.finish(0) for account in self._all.values()]
        kept = [one for one in admissions if one.tally.received] or admissions[:1]
        kept[0].tally.bytes_in = bytes_in
        return kept
