"""The spool's file: batches, receipts and cursors in one SQLite database, written by one thread.

A sink has a cursor from the first start with it on. A sink that is not named at a later start is
absent: batches that waited for it stay, and those that come meanwhile are not for it. They lie in a
gap, which is closed when the sink is named again. A batch is deleted when no sink needs it.

After an error the connection must not be used again: it is closed, and the file is reopened.

Rules delete records or fields from pending batches, and damaged batches go. A receipt is never
changed. The rest of a batch keeps its id and its place in the queue, and gets a new receipt, the
last of all, which counts nothing, as its records were counted before. A sink that has the batch
does not get it again, and one to which it is just being sent recognises it by its id.
"""

from __future__ import annotations

import dataclasses
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collector.contracts import (
    MOST_EVENTS,
    Batch,
    Earlier,
    Layout,
    PendingBatch,
    Removal,
    Tally,
    count_lines,
    layout_of,
)
from collector.files import need_room
from collector.filter.redaction import FIRST, Rule, redact
from collector.ledger.journal import append_all
from collector.ledger.receipt import NOTHING, SALT_BYTES, Start, Tip, commit, issue
from collector.spool import idempotency
from collector.spool.idempotency import forget_keys
from collector.spool.tables import (
    BATCH,
    NEW_BATCH,
    NEW_COLUMN,
    NEW_CURSOR,
    NEW_GAP,
    NEW_HOUR,
    NEW_LAYOUT,
    NEW_RECEIPT,
    NEW_TIP,
    OPEN,
    REVISED_BATCH,
    Gap,
    batch_seal,
    checksum,
    decode_granted,
    encode_granted,
    is_intact,
    layout_seal,
    make_private,
    open_connection,
    read_cursors,
    read_gaps,
)
from collector.spool.write_queue import (
    ID_BYTES,
    MOST_SHARED_BYTES,
    HourlySums,
    PendingWrite,
    RecentBatches,
    merge_for_commit,
)
from collector.sqlite.compaction import compacting, empty_log
from collector.sqlite.connection import checkpoint, copy_log, number_of, transaction
from collector.sqlite.wal import Index, truncate_log
from collector.sqlite.wal import need_room as need_room_for_index

_MOST_SELECTED_BYTES = 2 << 20
_DEPTH = (
    "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0) FROM batches"
)
_BY_NUMBER = f"SELECT {BATCH} FROM batches WHERE sequence = ?"  # noqa: S608
_NEXT = "SELECT sequence FROM batches WHERE sequence > ? ORDER BY sequence LIMIT 1"
_WITHIN = "WHERE sequence > ? AND sequence <= ?"
_FIRST = f"SELECT min(sequence) FROM batches {_WITHIN}"  # noqa: S608 - constants
_LAST_DELIVERED = (
    "SELECT max(sequence) FROM (SELECT sequence, sum(length(payload)) OVER (ORDER BY sequence)"  # noqa: S608
    f" - length(payload) AS before FROM batches {_WITHIN}) WHERE before < ?"
)
_PASSED = f"{_DEPTH} {_WITHIN}"
_MOST_DELETED_BYTES = MOST_SHARED_BYTES // 2
"""Bytes of batches after which no more are deleted in a transaction: it takes as long as writing,
and senders wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is pending for sinks; ``bytes`` are of records."""

    batches: int = 0
    records: int = 0
    bytes: int = 0

    def __add__(self, other: Depth) -> Depth:
        return Depth(
            self.batches + other.batches, self.records + other.records, self.bytes + other.bytes
        )

    def __sub__(self, other: Depth) -> Depth:
        return Depth(
            self.batches - other.batches, self.records - other.records, self.bytes - other.bytes
        )


@dataclass(slots=True)
class Selection:
    """Batches for a sink, with their numbers. ``unreadable`` has the numbers of damaged ones."""

    batches: list[tuple[int, Batch]] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)


class SpoolFile:
    """An open spool file. ``write`` is for one thread; ``select``, ``get``, ``first`` for another;
    ``copy_log`` for a third.

    ``cursors`` are the numbers up to which sinks have the batches, absent ones too, and
    ``backlogs`` how much is pending for each; they are replaced, never changed.

    Raises ``sqlite3.Error`` or ``OSError``; then the caller must close the file.
    """

    def __init__(self, path: Path) -> None:
        self.layouts: dict[str, Layout] = {}
        self.cursors: dict[str, int] = {}
        self.gaps: dict[str, tuple[Gap, ...]] = {}
        self.oldest: int | None = None
        """The first number that waits for an absent sink."""
        self.tip: Tip = Tip(0, NOTHING)
        self.depth: Depth = Depth()
        self.backlogs: Mapping[str, Depth] = {}
        self.has_delivered: bool = False
        """Whether some of the batches that every sink has are still to be deleted."""
        self.chain_tip: Tip = self.tip
        """The receipt, or the start of a chain, which the next receipt follows."""
        self._recent = RecentBatches()
        self._path = path
        make_private(path)
        need_room_for_index(path)
        with ExitStack() as opened:
            connections = [opened.enter_context(closing(open_connection(path))) for _ in range(3)]
            self.index: Index = Index(path)
            opened.pop_all()
        self.db: sqlite3.Connection = connections[0]
        self._reader, self._copier = connections[1:]

    @property
    def last(self) -> int:
        """The highest number that a batch may have."""
        return self.chain_tip.sequence

    def load(self) -> None:
        """Read layouts, cursors, tip and depth into memory, and forget all else."""
        execute = self.db.execute
        self._recent.forget(self.last)
        columns: dict[str, list[tuple[str, str]]] = {}
        query = "SELECT digest, name, type FROM columns ORDER BY digest, position"
        for digest, name, kind in execute(query):
            columns.setdefault(digest, []).append((name, kind))
        for digest, schema, name, seal in execute("SELECT digest, schema, name, seal FROM layouts"):
            layout = Layout(schema, digest, name, tuple(columns.get(digest, ())))
            if seal == layout_seal(layout):
                self.layouts[digest] = layout
        self.cursors = read_cursors(execute)
        self.gaps = read_gaps(execute)
        self.tip = Tip(*execute("SELECT sequence, hash FROM tip").fetchone())
        self.chain_tip = self.tip
        query = "SELECT first, reason, after FROM starts WHERE first > ? ORDER BY first"
        for row in execute(query, (self.tip.sequence,)):
            self.chain_tip = Tip(row[0] - 1, Start(*row).hash)
        self.depth = Depth(*execute(_DEPTH).fetchone())
        self._count()

    def prepare(self, layouts: Iterable[Layout], sinks: Sequence[str]) -> None:
        """Store layouts, and the sinks for which batches wait: a new sink begins with the oldest
        pending batch, one that is not named is absent from now on, and one that is named again goes
        on."""
        with self.transaction():
            idempotency.forget_keys(self.db)
            for layout in layouts:
                self._add_layout(layout)
            if sinks:
                self._set_cursors({sink: self.cursors.get(sink, 0) for sink in sinks})
                for sink in self.cursors:
                    self._set_gaps(sink, is_absent=sink not in sinks)
            self.depth = self._delete_delivered(self.depth)
        self._count()

    def _set_gaps(self, sink: str, *, is_absent: bool) -> None:
        """Store, within a transaction, that a sink is absent from here on, or no longer. Gaps that
        it has passed are forgotten."""
        gaps, at = self.gaps.get(sink, ()), self.cursors[sink]
        if is_absent and not _is_open(gaps):
            gaps = (*gaps, Gap(self.last))
        elif not is_absent and _is_open(gaps):
            gaps = (*gaps[:-1], gaps[-1]._replace(upto=self.last))
        self._store_gaps(sink, tuple(gap for gap in gaps if max(gap.after, at) < gap.upto))

    def _store_gaps(self, sink: str, gaps: tuple[Gap, ...]) -> None:
        self.db.execute("DELETE FROM gaps WHERE sink = ?", (sink,))
        self.db.executemany(NEW_GAP, [(sink, *gap, checksum(sink, *gap)) for gap in gaps])
        self.gaps = {**self.gaps, sink: gaps}

    @property
    def absentees(self) -> frozenset[str]:
        """The sinks that are absent, whether something waits for them or not."""
        return frozenset(sink for sink, gaps in self.gaps.items() if _is_open(gaps))

    @property
    def absent(self) -> dict[str, Depth]:
        """How much waits for each sink that is absent, if something does."""
        found = {sink: self.backlogs.get(sink, Depth()) for sink in sorted(self.absentees)}
        return {sink: depth for sink, depth in found.items() if depth.batches}

    def drop(self, sink: str) -> None:
        """Store, within a transaction, that nothing waits for a sink any more. What no other sink
        needs is deleted by ``delete_delivered`` then."""
        self._set_cursors({sink: self.last})
        self._store_gaps(sink, (Gap(0),))  # also where a damaged file loses the cursor

    def delete_delivered(self) -> bool:
        """Delete some of the batches that no sink needs; return whether some are left."""
        with self.transaction():
            self.depth = self._delete_delivered(self.depth)
        return self.has_delivered

    def write(
        self,
        writes: Sequence[PendingWrite],
        cursors: Mapping[str, int],
        sums: HourlySums,
        damaged: Collection[int],
    ) -> list[Earlier | None]:
        """Write one transaction: batches with their receipts, and keys of requests; entries of the
        ledger; cursors that moved, hourly sums, and the quarantine of damaged batches. It is
        durable on return. Returns for each write what was stored under its key before: only those
        are stored for which that is ``None``."""
        new, found = list(writes), list[Earlier | None]([None] * len(writes))
        with self.transaction():
            if any(write.key is not None for write in writes):
                found = idempotency.earlier(self.db, [write.keyed for write in writes])
                new = [write for write, each in zip(writes, found, strict=True) if each is None]
                idempotency.add_keys(self.db, [write.keyed for write in new])
            batches = merge_for_commit(batch for write in new for batch in write.batches)
            tip, depth = self._add_all(batches)
            backlogs = self._with_added(depth - self.depth)
            if notes := [note for write in writes for note in write.notes]:
                append_all(self.db, self._path, notes)
            if sums:
                self.db.executemany(NEW_HOUR, [(*key, times) for key, times in sums.items()])
            if cursors:
                passed = self._passed({s: (self.cursors[s], at) for s, at in cursors.items()})
                backlogs |= {sink: backlogs[sink] - some for sink, some in passed.items()}
                self._set_cursors(cursors)
            for sequence in damaged:
                idempotency.forget_batch(self.db, sequence)
                depth = self._delete(depth, "WHERE sequence = ?", sequence, copy_to="damaged")
            if cursors:
                depth = self._delete_delivered(depth)
        self.depth, self.backlogs = depth, backlogs
        if tip != self.chain_tip:
            self.tip = self.chain_tip = tip
        if damaged:
            self._count()
        return found

    def transaction(self) -> AbstractContextManager[None]:
        """Run a block as a transaction. A commit that fails leaves nothing in the log."""
        return transaction(self.db, self._truncate_log)

    def _truncate_log(self) -> None:
        with suppress(OSError):
            truncate_log(self._path, self.index)

    def select(self, sink: str, sequence: int, last: int, limit: int) -> Selection:
        """Select the next batches for a sink after a number and up to ``last``: at most ``limit``,
        and as many as one transaction of a sink may take."""
        selected, size, records = Selection(), 0, 0
        for number, batch in self._batches(sink, sequence, last):
            if batch is None:
                selected.unreadable.add(number)
            else:
                selected.batches.append((number, batch))
                size += len(batch.payload)
                records += count_lines(batch.payload)
            is_enough = size >= _MOST_SELECTED_BYTES or records >= MOST_EVENTS
            if is_enough or len(selected.batches) == limit:
                break
        return selected

    def _batches(self, sink: str, sequence: int, last: int) -> Iterator[tuple[int, Batch | None]]:
        """Yield the batches for a sink after a number; ``None`` for a damaged one."""
        for at, upto in self._needed(sink, sequence):
            row = self._reader.execute(_NEXT, (at,)).fetchone()
            while row is not None and row[0] <= min(upto, last):
                yield row[0], self._recent.known.get(row[0]) or self.get(row[0])
                row = self._reader.execute(_NEXT, row).fetchone()

    def _needed(self, sink: str, sequence: int) -> Iterator[tuple[int, int]]:
        """Yield where the batches are that a sink needs after a number: after one number, up to
        another."""
        for gap in self.gaps.get(sink, ()):
            if sequence < gap.after:
                yield sequence, gap.after
            sequence = max(sequence, gap.upto)
        if sequence < OPEN:
            yield sequence, OPEN

    def first_for(self, sink: str, to: int) -> int:
        """Return a number before which nothing waits for a sink that has what is up to another."""
        after, _ = next(self._needed(sink, to), (OPEN - 1, OPEN))
        return after + 1

    def _unneeded(self) -> Iterator[tuple[int, int]]:
        """Yield where the batches are that no sink needs, likewise."""
        at = 0
        needed = (span for sink, to in self.cursors.items() for span in self._needed(sink, to))
        for after, upto in sorted(needed):
            if at < after:
                yield at, after
            at = max(at, upto)
        if at < self.last:
            yield at, self.last

    def _count(self) -> None:
        """Count what is pending for each sink, and find what has waited for an absent one."""
        self.backlogs = self._passed({sink: (at, OPEN) for sink, at in self.cursors.items()})
        found = [first for sink in self.absent for first in self._firsts(sink)]
        self.oldest = min(found, default=None)

    def _firsts(self, sink: str) -> Iterator[int]:
        """Yield the first number in each place where batches wait for a sink."""
        for span in self._needed(sink, self.cursors[sink]):
            (number,) = self.db.execute(_FIRST, span).fetchone()
            if number is not None:
                yield number

    def get(self, sequence: int) -> Batch | None:
        """Return the batch of a number; ``None`` if there is none, or if it is damaged."""
        row = self._reader.execute(_BY_NUMBER, (sequence,)).fetchone()
        return None if row is None else self._batch(row)

    def _batch(self, row: tuple[Any, ...]) -> Batch | None:
        _, id_, digest, received, _, _, _, payload, granted, _ = row
        layout = self.layouts.get(digest)
        if layout is None or not is_intact(row):
            return None
        purposes = decode_granted(granted)
        return Batch(id_, received, layout=layout, payload=payload, granted=purposes)

    def first(self) -> tuple[int, str] | None:
        """Return number and minute of the oldest batch."""
        query = "SELECT sequence, received FROM batches ORDER BY sequence LIMIT 1"
        found: tuple[int, str] | None = self._reader.execute(query).fetchone()
        return found

    def has_room(self, size: int) -> bool:
        """Return whether the disk has room for so many bytes, in the log and in the file."""
        free, page = (number_of(self.db, name) for name in ("freelist_count", "page_size"))
        with suppress(OSError):
            need_room(self._path.parent, size + max(0, size - free * page))
            return True
        return False

    def copy_log(self) -> None:
        """Copy into the file what the log has now, while commits go on."""
        copy_log(self._copier)

    def checkpoint(self) -> bool:
        """Copy the log into the file and truncate it; return ``False`` if a reader prevents that.
        Does not wait for readers, as senders wait meanwhile."""
        return checkpoint(self.db)

    def close(self) -> None:
        """Close the file, whatever state it is in."""
        for each in (self._copier, self._reader, self.db):
            with suppress(sqlite3.Error):
                each.close()
        self.index.close()

    def _add(self, batch: Batch, tally: Tally, tip: Tip) -> Tip:
        """Insert a batch, unless it is empty, and its receipt, within a transaction; return the new
        tip."""
        layout, commitment = layout_of(batch), None
        if batch.payload:
            self._add_layout(layout)
            commitment, sealed = _sealed(batch)
            number = tip.sequence + 1
            head = (number, batch.id, layout.digest, batch.received)
            row = (*head, *sealed, encode_granted(batch.granted), number)
            self.db.execute(NEW_BATCH, row)
        return self._add_receipt(batch, tally, tip, commitment)

    def _add_receipt(self, batch: Batch, tally: Tally, tip: Tip, commitment: bytes | None) -> Tip:
        receipt = issue(tip, batch.received, layout_of(batch).digest, tally, commitment)
        self.db.execute(NEW_RECEIPT, receipt.as_row())
        return Tip(receipt.sequence, receipt.hash)

    def replace(self, sequence: int, batch: Batch, payload: bytes, tip: Tip) -> Tip:
        """Store, within a transaction, another payload of a batch under a new receipt; return the
        new tip. The caller calls ``load``."""
        batch = dataclasses.replace(batch, payload=payload)
        commitment, sealed = _sealed(batch)
        tip = self._add_receipt(batch, Tally(), tip, commitment)
        self.db.execute(REVISED_BATCH, (*sealed, tip.sequence, sequence))
        return tip

    def _add_all(self, batches: Iterable[PendingBatch]) -> tuple[Tip, Depth]:
        """Insert new batches and receipts; return tip and depth after that."""
        tip, depth = self.chain_tip, self.depth
        for pending in batches:
            batch = new_batch(pending)
            tip = self._add(batch, pending.tally, tip)
            if pending.payload:
                self._recent.add(tip.sequence, batch)
                records = depth.records + pending.record_count
                depth = Depth(depth.batches + 1, records, depth.bytes + len(pending.payload))
        if tip != self.chain_tip:
            self.db.execute(NEW_TIP, (tip.sequence, tip.hash))
        return tip, depth

    def _add_layout(self, layout: Layout) -> None:
        if layout.digest in self.layouts:
            return
        row = (layout.digest, layout.schema, layout.table, layout_seal(layout))
        self.db.execute(NEW_LAYOUT, row)
        columns = [(layout.digest, at, *column) for at, column in enumerate(layout.columns)]
        self.db.executemany(NEW_COLUMN, columns)
        self.layouts[layout.digest] = layout

    def _set_cursors(self, cursors: Mapping[str, int]) -> None:
        rows = [(sink, to, checksum(sink, to)) for sink, to in cursors.items()]
        self.db.executemany(NEW_CURSOR, rows)
        self.cursors = {**self.cursors, **cursors}

    def _with_added(self, added: Depth) -> dict[str, Depth]:
        """Return the backlogs after something was added, which is pending for every sink that is
        not absent."""
        absent = self.absentees
        return {
            sink: backlog if sink in absent else backlog + added
            for sink, backlog in self.backlogs.items()
        }

    def _passed(self, moves: Mapping[str, tuple[int, int]]) -> dict[str, Depth]:
        """Count for each sink what lies between two numbers, and is for it."""
        counted, passed = dict[tuple[int, int], Depth](), dict[str, Depth]()
        for sink, (old, new) in moves.items():
            passed[sink] = Depth()
            for after, upto in self._needed(sink, old):
                span = after, min(upto, new)
                if span not in counted:
                    counted[span] = Depth(*self.db.execute(_PASSED, span).fetchone())
                passed[sink] += counted[span]
        return passed

    def _delete_delivered(self, depth: Depth) -> Depth:
        """Delete some of the batches that no sink needs; return the depth after that."""
        if not self.cursors:
            return depth
        enough = depth.bytes - _MOST_DELETED_BYTES
        present = self.cursors.keys() - self.absentees
        self._recent.forget(min((self.cursors[sink] for sink in present), default=self.last))
        for after, upto in self._unneeded():
            if depth.bytes > enough:
                span = (after, upto, depth.bytes - enough)
                (last,) = self.db.execute(_LAST_DELIVERED, span).fetchone()
                depth = self._delete(depth, _WITHIN, after, last or 0)
        self.has_delivered = depth.bytes <= enough
        return depth

    def _delete(self, depth: Depth, where: str, *numbers: int, copy_to: str | None = None) -> Depth:
        """Delete batches, perhaps after copying them to another table; return the depth after
        that."""
        execute = self.db.execute
        batches, records, size = execute(f"{_DEPTH} {where}", numbers).fetchone()
        if not batches:
            return depth
        if copy_to is not None:
            execute(f"INSERT INTO {copy_to} SELECT * FROM batches {where}", numbers)  # noqa: S608
        execute(f"DELETE FROM batches {where}", numbers)  # noqa: S608 - constants
        return Depth(depth.batches - batches, depth.records - records, depth.bytes - size)


def new_batch(pending: PendingBatch) -> Batch:
    """Build the batch of a pending one, under its id or a random one, with its rows if they are
    known."""
    rows = pending.rows
    return Batch(
        pending.id or secrets.token_bytes(ID_BYTES),
        pending.received,
        layout=pending.layout,
        payload=pending.payload,
        rows=None if rows is None else lambda: rows,
        granted=pending.granted,
    )


def _is_open(gaps: Sequence[Gap]) -> bool:
    return bool(gaps) and gaps[-1].upto == OPEN


def _sealed(batch: Batch) -> tuple[bytes, tuple[object, ...]]:
    """Return the commitment to the records of a batch, and what its row has of them: their number,
    salt, seal and payload."""
    salt = secrets.token_bytes(SALT_BYTES)
    commitment = commit(salt, batch.payload)
    records, granted = count_lines(batch.payload), encode_granted(batch.granted)
    head = (batch.id, layout_of(batch).digest, batch.received, records)
    seal = batch_seal(salt, commitment, granted, *head)
    return commitment, (records, salt, seal, batch.payload)


# -- removing records ------------------------------------------------------------------------------

_MINUTE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:00Z"
_OLD = f"(received < ? OR received NOT GLOB '{_MINUTE}')"


def rewrite(
    file: SpoolFile, path: Path, rules: Sequence[Rule], *, damaged: str, hours: str = FIRST
) -> list[Removal]:
    """Carry out rules; return what each has removed. Delete the damaged batches from before the
    minute ``damaged``, and hourly sums from before ``hours``; they count to the first rule. Unless
    all rules are by age and nothing was deleted, no byte stays of what ever was.

    Raises ``sqlite3.Error`` or ``OSError``.
    """
    execute, is_by_age = file.db.execute, all(rule.now is not None for rule in rules)
    with compacting(file.db, path) as write_anew, file.transaction():
        total = _rewrite_batches(file, rules)
        gone = execute(f"DELETE FROM damaged WHERE {_OLD}", (damaged,)).rowcount  # noqa: S608
        forget_keys(file.db)
        sums = execute("DELETE FROM hours WHERE hour < ?", (hours,)).rowcount
        if gone or any(total) or not is_by_age:
            write_anew("batches", "damaged")
    file.load()
    is_swept = empty_log(file.db, path)
    total[0] += Removal(damaged=gone, hours=sums)
    return [each + Removal(is_swept=is_swept) for each in total]


def _rewrite_batches(file: SpoolFile, rules: Sequence[Rule]) -> list[Removal]:
    """Carry out rules within a transaction; damaged batches become known as such."""
    execute, tip, total = file.db.execute, file.chain_tip, [Removal() for _ in rules]
    until = max(rule.until for rule in rules)
    query = f"SELECT sequence FROM batches WHERE {_OLD} ORDER BY sequence"  # noqa: S608
    for (sequence,) in execute(query, (until,)).fetchall():
        batch = file.get(sequence)
        if batch is None:
            execute("INSERT INTO damaged SELECT * FROM batches WHERE sequence = ?", (sequence,))
            execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
            continue
        payload, done = redact(batch.payload, rules, batch.received)
        if not any(done):
            continue
        if payload:
            tip = file.replace(sequence, batch, payload, tip)
        else:
            execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
        total = [a + b + Removal(batches=bool(b)) for a, b in zip(total, done, strict=True)]
    if tip != file.chain_tip:
        execute(NEW_TIP, (tip.sequence, tip.hash))
    return total
