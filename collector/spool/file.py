"""The spool's file: batches, receipts and cursors in one SQLite database, written by one thread.

A sink has a cursor from the first start with it on. A sink that is not named at a later start is
absent: batches that waited for it stay, and those that come meanwhile are not for it. They lie in a
gap, which is closed when the sink is named again. A batch is deleted when no sink needs it.

After an error the connection must not be used again: it is closed, and the file is reopened.

A large request is staged: its parts are written in several transactions, and accepted in the last.
So others' commits go on between its parts, and none waits for more than one of them. A staged part
is a batch with a receipt that counts nothing, and its number is in the table ``staging``. As long
as it is there, no sink, count or command takes the part for accepted, and no later part goes to a
sink before it. The last transaction empties the table, adds the last record of each batch with a
receipt that has the counts, and stores the request's key. What is staged when the file is opened
was never acknowledged, and is deleted.

A revision deletes records or fields from pending batches, and damaged batches. A receipt is never
changed. The rest of a batch keeps its id and gets a new receipt, the last of all, which counts
nothing, as its records were counted before. Numbers of batches are used once, so a sink that has
the batch already gets it again, and recognises it by its id.

Then both tables are rewritten: SQLite overwrites deleted rows in place, but not the copies that it
made when it split and merged pages.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from collector.contracts import Batch, Earlier, Layout, PendingBatch, Tally, count_lines, layout_of
from collector.files import need_room
from collector.ledger.journal import append_all
from collector.ledger.receipt import NOTHING, SALT_BYTES, Start, Tip, commit, issue
from collector.spool import idempotency, write_queue
from collector.spool.idempotency import forget_keys
from collector.spool.tables import (
    BATCH,
    NEW_BATCH,
    NEW_COLUMN,
    NEW_CURSOR,
    NEW_GAP,
    NEW_HOUR,
    NEW_LAYOUT,
    NEW_PART_CURSOR,
    NEW_RECEIPT,
    NEW_TIP,
    OPEN,
    Gap,
    Part,
    Parts,
    Position,
    batch_seal,
    checksum,
    decode_granted,
    encode_granted,
    is_intact,
    layout_seal,
    make_private,
    note_part,
    open_connection,
    read_gaps,
    read_parts,
)
from collector.spool.write_queue import (
    HourlySums,
    PendingWrite,
    RecentBatches,
    last_parts,
    parts_before,
    unwritable,
)
from collector.sqlite.compaction import empty_log
from collector.sqlite.connection import checkpoint, copy_log, number_of, transaction
from collector.sqlite.wal import Index, truncate_log
from collector.sqlite.wal import need_room as need_room_for_index

_MOST_SELECTED_BYTES = 2 << 20
_DEPTH = (
    "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0) FROM batches"
)
_BY_NUMBER = f"SELECT {BATCH} FROM batches WHERE sequence = ?"  # noqa: S608
_NEXT = (
    "SELECT sequence FROM batches WHERE sequence > ?"
    " AND sequence NOT IN (SELECT sequence FROM parts) ORDER BY sequence LIMIT 1"
)
_WITHIN = "WHERE sequence > ? AND sequence <= ? AND sequence NOT IN (SELECT sequence FROM parts)"
_FIRST = f"SELECT min(sequence) FROM batches {_WITHIN}"  # noqa: S608 - constants
_LAST_DELIVERED = (
    "SELECT max(sequence) FROM (SELECT sequence, sum(length(payload)) OVER (ORDER BY sequence)"  # noqa: S608
    f" - length(payload) AS before FROM batches {_WITHIN}) WHERE before < ?"
)
_PASSED = f"{_DEPTH} {_WITHIN}"
_PARTS = "SELECT sequence, records, length(payload) FROM batches JOIN parts USING (sequence)"
_END = Position(batch=(1 << 63) - 1, part=(1 << 63) - 1)


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

    ``parts`` has the pending parts by number, in order, and ``backlogs`` how much is pending for
    each sink that has a cursor; they are replaced, never changed.

    Raises ``sqlite3.Error`` or ``OSError``; then the caller must close the file.
    """

    def __init__(self, path: Path) -> None:
        self.layouts: dict[str, Layout] = {}
        self.cursors: dict[str, Position] = {}
        """Of all sinks, absent ones too."""
        self.gaps: dict[str, tuple[Gap, ...]] = {}
        self.oldest: int | None = None
        """The first number that waits for an absent sink."""
        self.parts: Parts = Parts()
        self.tip: Tip = Tip(0, NOTHING)
        self.depth: Depth = Depth()
        self.backlogs: Mapping[str, Depth] = {}
        self.has_delivered: bool = False
        """Whether some of the parts that every sink has are still to be deleted."""
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
        """Read layouts, cursors, parts, tip and depth into memory, and forget all else."""
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
        batches, parts = self._read_cursors("cursors"), self._read_cursors("part_cursors")
        self.cursors = {
            sink: Position(batches.get(sink, 0), parts.get(sink, 0)) for sink in batches
        }
        self.gaps = read_gaps(execute)
        self.parts = read_parts(self.db)
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
                self._set_cursors({sink: self.cursors.get(sink, Position()) for sink in sinks})
                for sink in self.cursors:
                    self._set_gaps(sink, is_absent=sink not in sinks)
            depth, parts = self._delete_delivered(self.depth, self.parts)
        self.depth, self.parts = depth, parts
        self._count()

    def _set_gaps(self, sink: str, *, is_absent: bool) -> None:
        """Store, within a transaction, that a sink is absent from here on, or no longer. Gaps that
        it has passed are forgotten."""
        gaps, at = self.gaps.get(sink, ()), self.cursors[sink].batch
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
        self._set_cursors({sink: Position(self.last, self.last)})
        self._store_gaps(sink, (Gap(0),))  # also where a damaged file loses the cursor

    def delete_delivered(self) -> bool:
        """Delete some of the batches that no sink needs; return whether some are left."""
        with self.transaction():
            depth, parts = self._delete_delivered(self.depth, self.parts)
        self.depth, self.parts = depth, parts
        return self.has_delivered

    def write(
        self,
        writes: Sequence[PendingWrite],
        cursors: Mapping[str, Position],
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
            tip, depth = self._add_all(write_queue.group(write.batches for write in new))
            parts, backlogs = self.parts, self.with_added(depth - self.depth)
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
                parts = self._delete_parts(parts, [sequence])
            if cursors:
                depth, parts = self._delete_delivered(depth, parts)
        self.depth, self.parts, self.backlogs = depth, parts, backlogs
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
        """Select at most ``limit`` batches for a sink that are no parts, after a number and up to
        ``last``."""
        return _selection(self._batches(sink, sequence, last), limit)

    def select_parts(self, sink: str, sequence: int, limit: int) -> Selection:
        """Select at most ``limit`` parts for a sink after a number."""
        return _selection(self._parts(sink, sequence), limit)

    def _batches(self, sink: str, sequence: int, last: int) -> Iterator[tuple[int, Batch | None]]:
        """Yield the batches for a sink after a number that are no parts; ``None`` for a damaged
        one."""
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

    def first_for(self, sink: str, to: Position) -> int:
        """Return a number before which nothing waits for a sink that has what is up to a
        position."""
        after, _ = next(self._needed(sink, to.batch), (OPEN - 1, OPEN))
        part = self.parts.next(sink, to.part)
        return after + 1 if part is None else min(after + 1, part)

    def _unneeded(self) -> Iterator[tuple[int, int]]:
        """Yield where the batches are that no sink needs, likewise."""
        at = 0
        needed = (
            span for sink, to in self.cursors.items() for span in self._needed(sink, to.batch)
        )
        for after, upto in sorted(needed):
            if at < after:
                yield at, after
            at = max(at, upto)
        if at < self.last:
            yield at, self.last

    def _count(self) -> None:
        """Count what is pending for each sink, and find what has waited for an absent one."""
        self.backlogs = self._passed({sink: (at, _END) for sink, at in self.cursors.items()})
        found = [first for sink in self.absent for first in self._firsts(sink)]
        self.oldest = min(found, default=None)

    def _firsts(self, sink: str) -> Iterator[int]:
        """Yield the first number in each place where batches wait for a sink."""
        to = self.cursors[sink]
        for span in self._needed(sink, to.batch):
            (number,) = self.db.execute(_FIRST, span).fetchone()
            if number is not None:
                yield number
        if (part := self.parts.next(sink, to.part)) is not None:
            yield part

    def _sinks_with(self, sequence: int, part: Part | None) -> frozenset[str]:
        """Return the sinks that need a batch no more, which is a part or not."""
        if part is not None:
            return part.delivered | {s for s, at in self.cursors.items() if sequence <= at.part}
        return frozenset(
            sink
            for sink, at in self.cursors.items()
            if not any(after < sequence <= upto for after, upto in self._needed(sink, at.batch))
        )

    def _parts(self, sink: str, sequence: int) -> Iterator[tuple[int, Batch | None]]:
        """Yield the parts after a number that are for a sink; ``None`` for a damaged one."""
        while (number := self.parts.next(sink, sequence)) is not None:
            sequence = number
            yield number, self.get(number)

    def get(self, sequence: int) -> Batch | None:
        """Return the batch of a number; ``None`` if there is none, or if it is damaged."""
        row = self._reader.execute(_BY_NUMBER, (sequence,)).fetchone()
        return None if row is None else self._batch(row)

    def _batch(self, row: tuple[Any, ...]) -> Batch | None:
        sequence, id_, digest, received, _, _, _, payload, granted = row
        layout = self.layouts.get(digest)
        if layout is None or not is_intact(row):
            return None
        return Batch(
            id_,
            received,
            layout=layout,
            payload=payload,
            granted=decode_granted(granted),
            is_part=sequence in self.parts,
        )

    def first(self) -> tuple[int, str] | None:
        """Return number and minute of the oldest batch."""
        query = "SELECT sequence, received FROM batches ORDER BY sequence LIMIT 1"
        found: tuple[int, str] | None = self._reader.execute(query).fetchone()
        return found

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

    def add(self, batch: Batch, tally: Tally, tip: Tip) -> Tip:
        """Insert a batch, unless it is empty, and its receipt, within a transaction; return the new
        tip. The caller updates ``depth``."""
        layout, commitment = layout_of(batch), None
        if batch.payload:
            self._add_layout(layout)
            salt = secrets.token_bytes(SALT_BYTES)
            commitment = commit(salt, batch.payload)
            records, granted = count_lines(batch.payload), encode_granted(batch.granted)
            head = (batch.id, layout.digest, batch.received, records)
            seal = batch_seal(salt, commitment, granted, *head)
            row = (tip.sequence + 1, *head, salt, seal, batch.payload, granted)
            self.db.execute(NEW_BATCH, row)
        receipt = issue(tip, batch.received, layout.digest, tally, commitment)
        self.db.execute(NEW_RECEIPT, receipt.as_row())
        return Tip(receipt.sequence, receipt.hash)

    def _add_all(self, batches: Iterable[PendingBatch]) -> tuple[Tip, Depth]:
        """Insert new batches and receipts; return tip and depth after that."""
        tip, depth = self.chain_tip, self.depth
        for pending in batches:
            batch = new_batch(pending)
            tip = self.add(batch, pending.tally, tip)
            if pending.payload:
                self._recent.add(tip.sequence, batch)
                records = depth.records + pending.record_count
                depth = Depth(depth.batches + 1, records, depth.bytes + len(pending.payload))
        if tip != self.chain_tip:
            self.db.execute(NEW_TIP, (tip.sequence, tip.hash))
        return tip, depth

    def renumber(self, sequence: int, numbers: Iterable[int]) -> None:
        """Store, within a transaction, that a batch was replaced by others with these numbers. A
        sink that has it gets none of them, and an absent one for which it waits gets all. ``load``
        reads that."""
        part = self.parts.get(sequence)
        delivered = self._sinks_with(sequence, part)
        self.db.execute("DELETE FROM parts WHERE sequence = ?", (sequence,))
        if part is not None or delivered or self.absentees:
            for number in numbers:
                note_part(self.db, number, Part(delivered))

    def _add_layout(self, layout: Layout) -> None:
        if layout.digest in self.layouts:
            return
        row = (layout.digest, layout.schema, layout.table, layout_seal(layout))
        self.db.execute(NEW_LAYOUT, row)
        columns = [(layout.digest, at, *column) for at, column in enumerate(layout.columns)]
        self.db.executemany(NEW_COLUMN, columns)
        self.layouts[layout.digest] = layout

    def _read_cursors(self, table: str) -> dict[str, int]:
        """Read the number of each sink from a table of cursors; 0 for one that is damaged."""
        return {
            sink: sequence if seal == checksum(sink, sequence) else 0
            for sink, sequence, seal in self.db.execute(
                f"SELECT sink, sequence, seal FROM {table}"  # noqa: S608 - constants
            )
        }

    def _set_cursors(self, cursors: Mapping[str, Position]) -> None:
        for at, query in ((0, NEW_CURSOR), (1, NEW_PART_CURSOR)):
            rows = [(sink, to[at], checksum(sink, to[at])) for sink, to in cursors.items()]
            self.db.executemany(query, rows)
        self.cursors |= cursors

    def with_added(self, added: Depth) -> dict[str, Depth]:
        """Return the backlogs after something was added, which is pending for every sink that is
        not absent."""
        absent = self.absentees
        return {
            sink: backlog if sink in absent else backlog + added
            for sink, backlog in self.backlogs.items()
        }

    def _passed(self, moves: Mapping[str, tuple[Position, Position]]) -> dict[str, Depth]:
        """Count for each sink what lies between two positions of its cursor, and is for it."""
        counted, passed = dict[tuple[int, int], Depth](), dict[str, Depth]()
        for sink, (old, new) in moves.items():
            passed[sink] = Depth()
            for after, upto in self._needed(sink, old.batch):
                span = after, min(upto, new.batch)
                if span not in counted:
                    counted[span] = Depth(*self.db.execute(_PASSED, span).fetchone())
                passed[sink] += counted[span]
        has_parts = self.parts and any(new.part > old.part for old, new in moves.values())
        for number, records, size in self.db.execute(_PARTS).fetchall() if has_parts else ():
            part = self.parts.get(number)
            if part is None or part.is_staged:
                continue  # a staged one waits for nobody yet
            for sink, (old, new) in moves.items():
                if old.part < number <= new.part and sink not in part.delivered:
                    passed[sink] += Depth(1, records, size)
        return passed

    def _delete_delivered(self, depth: Depth, parts: Parts) -> tuple[Depth, Parts]:
        """Delete some of the batches that no sink needs, as deleting takes as long as writing;
        return depth and parts after that."""
        if not self.cursors:
            return depth, parts
        most = write_queue.MOST_PART_BYTES // 2
        enough = depth.bytes - most
        present = self.cursors.keys() - self.absentees
        self._recent.forget(min((self.cursors[sink].batch for sink in present), default=self.last))
        for after, upto in self._unneeded():
            if depth.bytes > enough:
                span = (after, upto, depth.bytes - enough)
                (last,) = self.db.execute(_LAST_DELIVERED, span).fetchone()
                depth = self._delete(depth, _WITHIN, after, last or 0)
        done = min(at.part for at in self.cursors.values())
        delivered = [
            number
            for number, part in parts.items()
            if number <= done
            or (part.delivered and self._sinks_with(number, part) >= self.cursors.keys())
        ]
        deleted = 0
        while deleted < min(len(delivered), write_queue.MOST_TOGETHER) and depth.bytes > enough:
            depth = self._delete(depth, "WHERE sequence = ?", delivered[deleted])
            deleted += 1
        self.has_delivered = depth.bytes <= enough or deleted < len(delivered)
        return depth, self._delete_parts(parts, delivered[:deleted])

    def _delete_parts(self, parts: Parts, numbers: Sequence[int]) -> Parts:
        """Delete the rows of parts; return the parts that are left."""
        if not any(number in parts for number in numbers):
            return parts
        self.db.executemany("DELETE FROM parts WHERE sequence = ?", [(n,) for n in numbers])
        gone = set(numbers)
        return Parts({number: part for number, part in parts.items() if number not in gone})

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
        pending.id or secrets.token_bytes(write_queue.ID_BYTES),
        pending.received,
        layout=pending.layout,
        payload=pending.payload,
        rows=None if rows is None else lambda: rows,
        granted=pending.granted,
    )


def _is_open(gaps: Sequence[Gap]) -> bool:
    return bool(gaps) and gaps[-1].upto == OPEN


def _selection(rows: Iterator[tuple[int, Batch | None]], limit: int) -> Selection:
    """Select as many batches as one transaction of a sink may take."""
    selected, size, records, most = Selection(), 0, 0, write_queue.MOST_ROWS
    while len(selected.batches) < limit and size < _MOST_SELECTED_BYTES and records < most:
        sequence, batch = next(rows, (0, None))
        if not sequence:
            break
        if batch is None:
            selected.unreadable.add(sequence)
        else:
            selected.batches.append((sequence, batch))
            size += len(batch.payload)
            records += count_lines(batch.payload)
    return selected


# -- staging ---------------------------------------------------------------------------------------

_MOST_LOG_BYTES = 16 << 20
"""The log is emptied before it is much larger."""
_STAGED = (
    "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(length(payload)), 0) FROM batches"
    " WHERE sequence IN (SELECT sequence FROM staging)"
)


class Staging:
    """A large request that is being written. ``is_new`` tells whether it is stored, and ``earlier``
    what was stored under its key before. Raises ``sqlite3.Error`` or ``OSError`` as ``SpoolFile``
    does; then its file must be opened again."""

    def __init__(self, file: SpoolFile, path: Path, write: PendingWrite) -> None:
        self._file, self._path, self._write = file, path, write
        self.is_new: bool = True
        self.earlier: Earlier | None = None
        self._parts = parts_before(write.batches)
        self._is_begun = False

    def step(self) -> bool:
        """Write the next parts, or accept all of them when there is none; return whether there is
        nothing more to do. Before the first one, refuse the request if the disk has no room."""
        if not self._is_begun:
            self._is_begun = True
            (self.earlier,) = idempotency.earlier(self._file.db, [self._write.keyed])
            self.is_new = self.earlier is None
            if self.is_new and not self._has_room():
                self.is_new = False
                self._write.future.set_exception(unwritable())
        if not self.is_new:
            return True
        parts = next(self._parts, None)
        if parts is None:
            self._accept()
            return True
        with self._file.transaction():
            after = self._add(parts)
        self._take_over(*after)
        return False

    def _has_room(self) -> bool:
        """Return whether the disk has room for all parts, and for what deleting them takes."""
        free, page = (number_of(self._file.db, name) for name in ("freelist_count", "page_size"))
        size = sum(len(batch.payload) for batch in self._write.batches)
        needed = max(0, size - free * page) + min(size, _MOST_LOG_BYTES)
        with suppress(OSError):
            need_room(self._path.parent, needed)
            return True
        return False

    def _accept(self) -> None:
        file, depth = self._file, self._file.depth
        with file.transaction():
            tip, parts = self._add(last_parts(self._write.batches))
            batches, records, size = file.db.execute(_STAGED).fetchone()
            file.db.execute("DELETE FROM staging")
            idempotency.add_keys(file.db, [self._write.keyed])
        self._take_over(tip, {n: replace(part, is_staged=False) for n, part in parts.items()})
        added = Depth(batches, records, size)
        file.depth, file.backlogs = depth + added, file.with_added(added)

    def _add(self, batches: Iterable[PendingBatch]) -> tuple[Tip, dict[int, Part]]:
        """Insert staged parts; return the tip and the parts after that."""
        file, tip, added = self._file, self._file.chain_tip, dict[int, Part]()
        for batch in batches:
            tip = file.add(new_batch(batch), batch.tally, tip)
            if batch.payload:
                part = Part(delivered=file.absentees, is_staged=True)
                added[tip.sequence] = note_part(file.db, tip.sequence, part)
        file.db.execute(NEW_TIP, (tip.sequence, tip.hash))
        return tip, file.parts | added

    def _take_over(self, tip: Tip, parts: dict[int, Part]) -> None:
        """Note what the file has after a commit."""
        self._file.tip = self._file.chain_tip = tip
        self._file.parts = Parts(parts)


def discard(db: sqlite3.Connection) -> None:
    """Delete staged parts, each in a transaction of its own: so the log stays small."""
    for row in db.execute("SELECT sequence FROM staging ORDER BY sequence").fetchall():
        with transaction(db):
            for table in ("batches", "parts", "staging"):
                db.execute(f"DELETE FROM {table} WHERE sequence = ?", row)  # noqa: S608 - constants


# -- revisions -------------------------------------------------------------------------------------

Divide = Callable[[Batch], Sequence[Batch]]
"""Returns the batches that replace one: with ids of their own, and its records in their order."""

NEVER, ALWAYS = "", "~"
"""Bounds: no minute is before the first, and every minute is before the second."""

_MINUTE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:00Z"
_OLD = f"(received < ? OR received NOT GLOB '{_MINUTE}')"


@dataclass(frozen=True, slots=True, repr=False)
class Revision:
    """What to delete: ``change`` gets a batch's payload and minute, and returns the new payload and
    the number of records that it changed.

    It is called for batches that were received before ``before``; damaged ones from before
    ``damaged`` are deleted, as are hourly sums before ``hours``. With ``always`` the tables are
    rewritten even if nothing was deleted.
    """

    change: Callable[[bytes, str], tuple[bytes, int]]
    before: str = ALWAYS
    damaged: str = NEVER
    hours: str = NEVER
    always: bool = False


@dataclass(frozen=True, slots=True)
class RevisionOutcome:
    """What a revision did: the number of batches that were changed or deleted, of their records
    that were, of these the deleted ones (``gone``), and of ``damaged`` batches and sums of
    ``hours`` that were deleted. ``is_swept`` is true if no deleted bytes are left in the file or
    its log; otherwise another process reads an earlier state."""

    batches: int
    records: int
    gone: int
    damaged: int
    hours: int
    is_swept: bool


def revise(file: SpoolFile, path: Path, revision: Revision) -> RevisionOutcome:
    """Carry out a revision. Raises ``sqlite3.Error`` or ``OSError``, and errors of ``change``."""
    execute = file.db.execute
    with file.transaction():
        batches, records, gone = _revise_batches(file, revision)
        damaged = execute(f"DELETE FROM damaged WHERE {_OLD}", (revision.damaged,)).rowcount  # noqa: S608
        forget_keys(file.db)
        hours = execute("DELETE FROM hours WHERE hour < ?", (revision.hours,)).rowcount
        if batches or damaged or revision.always:
            for table in ("batches", "damaged"):
                execute(f"CREATE TEMP TABLE remaining AS SELECT * FROM {table}")  # noqa: S608
                execute(f"DELETE FROM {table}")  # noqa: S608
                execute(f"INSERT INTO {table} SELECT * FROM remaining ORDER BY sequence")  # noqa: S608
                execute("DROP TABLE remaining")
    file.load()
    is_swept = empty_log(file.db, path)
    return RevisionOutcome(batches, records, gone, damaged, hours, is_swept)


def divide(file: SpoolFile, id_: bytes, parts_of: Divide) -> int:
    """Replace the batch with an id by others, each under a receipt of its own; return their
    number. Raises ``sqlite3.Error`` or ``OSError``, and ``ValueError`` for other records."""
    execute, number = file.db.execute, 0
    with file.transaction():
        query = "SELECT sequence FROM batches WHERE id = ? ORDER BY sequence LIMIT 1"
        for (sequence,) in execute(query, (id_,)).fetchall():
            whole, tip = file.get(sequence), file.chain_tip
            if whole is None:
                break  # damaged: it is quarantined when it is read the next time
            parts = parts_of(whole)
            if b"".join(part.payload for part in parts) != whole.payload:
                raise ValueError("the parts of a batch must be what it was")
            execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
            for part in parts:
                tip = file.add(part, Tally(), tip)
            file.renumber(sequence, range(file.chain_tip.sequence + 1, tip.sequence + 1))
            execute(NEW_TIP, (tip.sequence, tip.hash))
            number = len(parts)
    file.load()
    return number


def _revise_batches(file: SpoolFile, revision: Revision) -> tuple[int, int, int]:
    """Change batches; return the number of changed batches, of changed records, and of deleted
    records."""
    execute, tip, changed, records, gone = file.db.execute, file.chain_tip, 0, 0, 0
    query = f"SELECT sequence FROM batches WHERE {_OLD} ORDER BY sequence"  # noqa: S608
    for (sequence,) in execute(query, (revision.before,)).fetchall():
        batch = file.get(sequence)
        if batch is None:
            execute("INSERT INTO damaged SELECT * FROM batches WHERE sequence = ?", (sequence,))
            execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
            file.renumber(sequence, [])
            continue
        payload, number = revision.change(batch.payload, batch.received)
        if not number:
            continue
        execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
        if payload:
            tip = file.add(replace(batch, payload=payload), Tally(), tip)
        file.renumber(sequence, [tip.sequence] if payload else [])
        changed, records = changed + 1, records + number
        gone += count_lines(batch.payload) - count_lines(payload)
    if tip != file.chain_tip:
        execute(NEW_TIP, (tip.sequence, tip.hash))
    return changed, records, gone
