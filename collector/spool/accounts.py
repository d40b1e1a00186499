"""One row per sink that counts its batches, changed in the transaction of each step.

For every sink, in batches, records and bytes, after every commit:

    taken = delivered + waiting + set aside + skipped + expired + erased + damaged

A commit adds to ``taken`` and to the waiting batches, or to ``skipped`` while the sink's share is
full and the sink skips. A batch waits until the sink has it or the batch is set aside. It stays set
aside until the sink takes it. Retention makes records ``expired``; erasures and ``store drop`` make
them ``erased``. Only a damaged file makes batches ``damaged``. Waiting batches and batches set
aside are counted in their rows; the other numbers are sums that only grow.

While a sink is not named, nothing is taken for it. New batches then lie in a gap, like skipped
batches. A ledger entry states what a sink skipped: the receipts, and the numbers of batches and
records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from collector.contracts import EMPTY, Depth, Share
from collector.ledger.entry import Note
from collector.spool.tables import (
    NEW_ACCOUNT,
    NEW_GAP,
    OPEN,
    Account,
    Gap,
    account_row,
    checksum,
    read_accounts,
    read_gaps,
)

RESERVE = 10
"""A gap ends when a tenth of the share is free: then the sink has really taken something."""
_SIZES = "count(*), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0)"
_WITHIN = "WHERE sequence > ? AND sequence <= ?"
_FIRST = f"SELECT min(sequence) FROM batches {_WITHIN}"  # noqa: S608 - constants
_PASSED = f"SELECT {_SIZES} FROM batches {_WITHIN}"  # noqa: S608
_ASIDE = f"SELECT sink, {_SIZES} FROM aside GROUP BY sink"  # noqa: S608


class Seen(NamedTuple):
    """The accounts after a commit: each sink's row, what waits for it and what is set aside.
    ``absent`` is what waits for absent sinks, and ``oldest`` the first number among that."""

    rows: Mapping[str, Account] = {}
    waiting: Mapping[str, Depth] = {}
    aside: Mapping[str, Depth] = {}
    absent: Mapping[str, Depth] = {}
    oldest: int | None = None


class Accounts:
    """The rows of all sinks that were ever named, and their gaps. Methods that change them run in a
    transaction, and its caller calls ``store``. After an error the caller loads them again.

    ``waiting`` and ``aside`` tell how much waits for each sink, and how much is set aside.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.rows: dict[str, Account] = {}
        self.gaps: dict[str, tuple[Gap, ...]] = {}
        self.waiting: dict[str, Depth] = {}
        self.aside: dict[str, Depth] = {}
        self.oldest: int | None = None
        """The number of the first batch that waits for an absent sink."""
        self.shares: Mapping[str, Share] = {}
        self._stored: dict[str, Account] = {}
        self._unsettled: set[str] = set()

    def __repr__(self) -> str:
        return f"<Accounts of {len(self.rows)} sinks>"

    def load(self) -> None:
        """Read all from the file."""
        self.rows, unsettled = read_accounts(self._db.execute)
        self.gaps, damaged = read_gaps(self._db.execute)
        self._unsettled = unsettled | (damaged & self.rows.keys())
        self._stored = dict(self.rows)
        self.count()

    def count(self) -> None:
        """Count in the rows of batches what waits for each sink and what is set aside."""
        self.waiting = self._passed({sink: (row.cursor, OPEN) for sink, row in self.rows.items()})
        aside = {sink: Depth(*sizes) for sink, *sizes in self._db.execute(_ASIDE)}
        self.aside = {sink: aside.get(sink, EMPTY) for sink in self.rows}
        self._find_oldest()

    def _find_oldest(self) -> None:
        found = [first for sink in self.absent for first in self._firsts(sink)]
        self.oldest = min(found, default=None)

    def seen(self) -> Seen:
        """Return a copy that other threads may read."""
        rows, waiting, aside = dict(self.rows), dict(self.waiting), dict(self.aside)
        return Seen(rows, waiting, aside, self.absent, self.oldest)

    def store(self) -> None:
        """Write the rows that have changed."""
        changed = [sink for sink, row in self.rows.items() if row is not self._stored.get(sink)]
        self._db.executemany(NEW_ACCOUNT, [account_row(sink, self.rows[sink]) for sink in changed])
        self._stored = dict(self.rows)

    # -- steps ------------------------------------------------------------------------------------

    def name(self, shares: Mapping[str, Share], last: int) -> list[Note]:
        """Take batches for these sinks from now on; all others are absent. A new sink begins with
        the oldest batch; a sink that returns goes on. Return entries for what was skipped until
        now."""
        for sink in shares:
            if sink not in self.rows:
                self.rows[sink] = Account()
                self._unsettled.add(sink)
        if self._unsettled:
            self.count()
        for sink in self._unsettled:
            self._settle(sink)
        self._unsettled, self.shares, notes = set(), shares, list[Note]()
        for sink in self.rows if shares else ():
            notes += self._noted(sink, last)
            self._begin(sink, shares.get(sink), last)
        self._find_oldest()
        return notes

    def _begin(self, sink: str, share: Share | None, last: int) -> None:
        """Begin or end the absence of a sink. The gap of a sink that skips stays open if it still
        may skip."""
        gaps, row = self.gaps.get(sink, ()), self.rows[sink]
        if row.since and share is not None and share.skips and _is_open(gaps):
            return
        if row.since:
            self._change(sink, since=0)
        if share is not None and _is_open(gaps):
            self._close(sink, last)
        elif share is None and not _is_open(gaps):
            self._store_gaps(sink, (*gaps, Gap(last)))

    def take(self, added: Depth, before: int, last: int, *, is_due: bool) -> list[Note]:
        """Take for each named sink what a commit added after the number ``before``, up to ``last``.
        Return entries for gaps that end, and if ``is_due`` also for gaps that stay open."""
        notes, absent = list[Note](), self.absentees
        for sink, row in self.rows.items():
            if sink in absent:
                continue
            share = self.shares.get(sink)
            if share is not None and share.skips:
                limit = share.limit or 0
                room = limit - self.waiting[sink].bytes - added.bytes
                if row.since and room >= limit // RESERVE:
                    notes += self._noted(sink, before)
                    self._close(sink, before)
                    self._change(sink, since=0)
                elif not row.since and added.batches and room < 0:
                    self._store_gaps(sink, (*self.gaps.get(sink, ()), Gap(before)))
                    self._change(sink, since=before + 1)
            if added.batches:
                self._add(sink, "taken", added)
                if self.rows[sink].since:
                    self._add(sink, "skipped", added)
                    self._add(sink, "unnoted", added)
                else:
                    self.waiting[sink] += added
            if is_due:
                notes += self._noted(sink, last)
        return notes

    def deliver(self, cursors: Mapping[str, int]) -> None:
        """Count as delivered what lies before new cursors. A cursor behind the known one changes
        nothing, and a sink that is not named yet has no row."""
        moves = {
            sink: (row.cursor, at)
            for sink, at in cursors.items()
            if (row := self.rows.get(sink)) is not None and at > row.cursor
        }
        for sink, passed in self._passed(moves).items():
            self._leave(sink, "delivered", passed, cursors[sink])

    def set_aside(self, sink: str, sequence: int) -> Depth:
        """Count the next batch of a sink as set aside, and all before it as delivered. Return the
        size of the batch, or nothing if the batch is gone or a late call shows that the sink has
        it."""
        if sequence <= self.rows[sink].cursor:
            return EMPTY
        self.deliver({sink: sequence - 1})
        passed = self._passed({sink: (sequence - 1, sequence)})[sink]
        self.waiting[sink] -= passed
        self.aside[sink] += passed
        self._change(sink, cursor=sequence)
        return passed

    def redeliver(self, sink: str, had: Depth) -> None:
        """Count a batch that was set aside as delivered."""
        self.aside[sink] -= had
        self._add(sink, "delivered", had)

    def drop(self, sink: str, last: int) -> None:
        """Count as erased all that waits for a sink and was set aside for it."""
        self._add(sink, "erased", self.aside[sink])
        self.aside[sink] = EMPTY
        self._leave(sink, "erased", self.waiting[sink], last)
        self._store_gaps(sink, (Gap(0),))  # also where a damaged file loses the row

    def count_damaged(self) -> None:
        """Recount the batches. Count the missing ones as damaged, and also the difference where a
        damaged row stated another size."""
        self.count()
        for sink in self.rows:
            self._settle(sink)

    def recount(self, what: str) -> None:
        """Recount the batches. Count the missing ones as ``what``: expired or erased."""
        before = {sink: self.waiting[sink] + self.aside[sink] for sink in self.rows}
        self.count()
        for sink, had in before.items():
            self._add(sink, what, had - self.waiting[sink] - self.aside[sink])

    def _settle(self, sink: str) -> None:
        """Balance an account that is new or recovered from a damaged file: missing batches count as
        damaged, and present ones as taken."""
        row = self.rows[sink]
        there = self.waiting[sink] + self.aside[sink]
        lacking = row.taken - row.gone - there
        lost = Depth(*(max(number, 0) for number in lacking.numbers))
        self._change(sink, taken=row.taken - lacking + lost, damaged=row.damaged + lost)

    def _leave(self, sink: str, what: str, passed: Depth, cursor: int) -> None:
        self.waiting[sink] -= passed
        self._add(sink, what, passed)
        self._change(sink, cursor=cursor)

    def _add(self, sink: str, what: str, more: Depth) -> None:
        if more != EMPTY:
            self._change(sink, **{what: getattr(self.rows[sink], what) + more})

    def _change(self, sink: str, **changes: int | Depth) -> None:
        self.rows[sink] = replace(self.rows[sink], **changes)  # type: ignore[arg-type]

    def _noted(self, sink: str, last: int) -> list[Note]:
        """Return the entry for what a sink skipped since its last entry, up to a receipt, if
        anything."""
        row = self.rows[sink]
        if row.unnoted == EMPTY:
            return []
        self._change(sink, since=last + 1, unnoted=EMPTY)
        receipts: dict[str, Any] = {"from": row.since, "to": last}
        batches, records = row.unnoted.batches, row.unnoted.records
        return [Note.of("gap", sink=sink, **receipts, batches=batches, records=records)]

    def _close(self, sink: str, last: int) -> None:
        """End the open gap of a sink, and forget gaps that its cursor has passed."""
        *gaps, end = self.gaps[sink]
        at = self.rows[sink].cursor
        closed = (*gaps, end._replace(upto=last))
        self._store_gaps(sink, tuple(gap for gap in closed if max(gap.after, at) < gap.upto))

    def _store_gaps(self, sink: str, gaps: tuple[Gap, ...]) -> None:
        self._db.execute("DELETE FROM gaps WHERE sink = ?", (sink,))
        self._db.executemany(NEW_GAP, [(sink, *gap, checksum(sink, *gap)) for gap in gaps])
        self.gaps = {**self.gaps, sink: gaps}

    # -- which batches a sink needs ---------------------------------------------------------------

    @property
    def cursors(self) -> dict[str, int]:
        """The number up to which each sink has the batches."""
        return {sink: row.cursor for sink, row in self.rows.items()}

    @property
    def is_skipping(self) -> bool:
        """Whether a sink skips new batches."""
        return any(row.since for row in self.rows.values())

    def is_closed(self, sink: str) -> bool:
        """Return whether a sink gets no new batches."""
        return _is_open(self.gaps.get(sink, ()))

    @property
    def absentees(self) -> frozenset[str]:
        """The absent sinks, also those for which nothing waits."""
        found = (sink for sink, gaps in self.gaps.items() if _is_open(gaps))
        return frozenset(sink for sink in found if not self.rows[sink].since)

    @property
    def absent(self) -> dict[str, Depth]:
        """How much waits for each absent sink for which something waits or is set aside."""
        found = {sink: self.waiting[sink] for sink in sorted(self.absentees)}
        return {sink: had for sink, had in found.items() if had.batches or self.aside[sink].batches}

    def needed(self, sink: str, sequence: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of batches that a sink needs after a number. A range ``(after, upto)``
        excludes its first number."""
        for gap in self.gaps.get(sink, ()):
            if sequence < gap.after:
                yield sequence, gap.after
            sequence = max(sequence, gap.upto)
        if sequence < OPEN:
            yield sequence, OPEN

    def first_for(self, sink: str, to: int) -> int:
        """Return a number before which nothing waits for a sink that has all batches up to
        ``to``."""
        after, _ = next(self.needed(sink, to), (OPEN - 1, OPEN))
        return after + 1

    def unneeded(self, last: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of batches up to ``last`` that no sink needs."""
        at = 0
        needed = (span for sink, row in self.rows.items() for span in self.needed(sink, row.cursor))
        for after, upto in sorted(needed):
            if at < after:
                yield at, after
            at = max(at, upto)
        if at < last:
            yield at, last

    def _firsts(self, sink: str) -> Iterator[int]:
        """Yield the first number in each range where batches wait for a sink."""
        for span in self.needed(sink, self.rows[sink].cursor):
            (number,) = self._db.execute(_FIRST, span).fetchone()
            if number is not None:
                yield number

    def _passed(self, moves: Mapping[str, tuple[int, int]]) -> dict[str, Depth]:
        """Count for each sink the batches for it between two numbers."""
        counted, passed = dict[tuple[int, int], Depth](), dict[str, Depth]()
        for sink, (old, new) in moves.items():
            passed[sink] = EMPTY
            for after, upto in self.needed(sink, old):
                span = after, min(upto, new)
                if span not in counted:
                    counted[span] = Depth(*self._db.execute(_PASSED, span).fetchone())
                passed[sink] += counted[span]
        return passed


def _is_open(gaps: tuple[Gap, ...]) -> bool:
    return bool(gaps) and gaps[-1].upto == OPEN
