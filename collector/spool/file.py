"""The spool's file: batches, receipts and cursors in one SQLite database, written by one thread.

A sink gets an account at the first start that names it. A sink that a later start does not name is
absent: its waiting batches stay, and it gets no batches that arrive meanwhile. These lie in a gap,
which is closed when the sink is named again. A batch is deleted when no sink needs it.

After an error the caller must close the file and reopen it.

Rules delete records or fields from pending batches, and delete damaged batches. They never change a
receipt. A shortened batch keeps its id and its place in the queue. It gets a new receipt at the end
of the chain, which counts nothing because its records were counted before. A sink that has the
batch does not get it again. A sink that is just receiving it recognises it by its id.
"""

from __future__ import annotations

import dataclasses
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from collector.contracts import (
    FIRST,
    MOST_EVENTS,
    Batch,
    Depth,
    Earlier,
    Layout,
    PendingBatch,
    Removal,
    Share,
    StoredRecords,
    Tally,
    added,
    count_lines,
    layout_of,
)
from collector.files import need_room
from collector.filter.redaction import Rule, redact
from collector.ledger.journal import append_all
from collector.ledger.receipt import NOTHING, Start, Tip, issue
from collector.spool import idempotency
from collector.spool.accounts import Accounts
from collector.spool.idempotency import forget_keys
from collector.spool.tables import (
    BATCH,
    MOST_SHARED_BYTES,
    NEW_BATCH,
    NEW_COLUMN,
    NEW_HOUR,
    NEW_LAYOUT,
    NEW_RECEIPT,
    NEW_TIP,
    REVISED_ASIDE,
    REVISED_BATCH,
    SET_ASIDE,
    batch_of,
    batch_seal,
    encode_granted,
    layout_seal,
    make_private,
    open_connection,
    read_layouts,
    stored,
)
from collector.spool.write_queue import (
    ID_BYTES,
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
_LENGTHS = f"SELECT sequence, length(payload) FROM batches {_WITHIN} ORDER BY sequence"  # noqa: S608
"""Does not read the payloads. A window function would, which takes 18 ms for 5 MB."""
_NOT_ASIDE = "DELETE FROM aside WHERE sink = ? AND sequence = ?"
_ASIDE_SIZES = "SELECT 1, records, length(payload) FROM aside WHERE sink = ? AND sequence = ?"
_MOST_DELETED_BYTES = MOST_SHARED_BYTES // 2
"""A transaction stops deleting batches after this many bytes, unless it writes more. Deleting takes
as long as writing, and senders wait for it."""


@dataclass(slots=True)
class Selection:
    """Batches for a sink, with their numbers. ``unreadable`` has the numbers of damaged batches."""

    batches: list[tuple[int, Batch]] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)


class SpoolFile:
    """An open spool file. One thread may call ``write``, a second one ``select``, ``get`` and
    ``first``, and a third one ``copy_log``.

    Raises ``sqlite3.Error`` or ``OSError``; then the caller must close the file.
    """

    def __init__(self, path: Path) -> None:
        self.layouts: dict[str, Layout] = {}
        self.tip: Tip = Tip(0, NOTHING)
        self.depth: Depth = Depth()
        self.has_delivered: bool = False
        """Whether batches that every sink has still await deletion."""
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
        self.accounts: Accounts = Accounts(self.db)

    @property
    def last(self) -> int:
        """The highest number that a batch may have."""
        return self.chain_tip.sequence

    def load(self) -> None:
        """Read layouts, cursors, tip and depth into memory, and forget everything else."""
        execute = self.db.execute
        self._recent.forget(self.last)
        self.layouts = read_layouts(execute)
        self.tip = Tip(*execute("SELECT sequence, hash FROM tip").fetchone())
        self.chain_tip = self.tip
        query = "SELECT first, reason, after FROM starts WHERE first > ? ORDER BY first"
        for row in execute(query, (self.tip.sequence,)):
            self.chain_tip = Tip(row[0] - 1, Start(*row).hash)
        self.depth = Depth(*execute(_DEPTH).fetchone())
        self.accounts.load()

    def prepare(self, layouts: Iterable[Layout], shares: Mapping[str, Share]) -> None:
        """Store layouts, and name the sinks of ``shares``: all others are absent from now on.
        Without shares, change no sink."""
        with self.transaction():
            idempotency.forget_keys(self.db)
            for layout in layouts:
                self._add_layout(layout)
            if notes := self.accounts.name(shares, self.last):
                append_all(self.db, self._path, notes)
            self.depth = self._delete_delivered(self.depth)

    def set_aside(self, sink: str, sequence: int) -> bool:
        """Set aside the next batch of a sink in its present state; return whether it was still
        there."""
        with self.transaction():
            self.db.execute(SET_ASIDE, (sink, sequence))
            if not (found := self.accounts.set_aside(sink, sequence).batches):
                self.db.execute(_NOT_ASIDE, (sink, sequence))
            self.depth = self._delete_delivered(self.depth)
        return bool(found)

    def redelivered(self, sink: str, sequence: int) -> None:
        """Delete a batch that was set aside, because the sink has it now."""
        with self.transaction():
            for sizes in self.db.execute(_ASIDE_SIZES, (sink, sequence)).fetchall():
                self.accounts.redeliver(sink, Depth(*sizes))
            self.db.execute(_NOT_ASIDE, (sink, sequence))

    def drop(self, sink: str) -> None:
        """Within a transaction, delete what was set aside for a sink, and store that nothing waits
        for it. ``delete_delivered`` then deletes what no other sink needs."""
        self.db.execute("DELETE FROM aside WHERE sink = ?", (sink,))
        self.accounts.drop(sink, self.last)

    def delete_delivered(self) -> bool:
        """Delete some of the batches that no sink needs; return whether some are left."""
        with self.transaction():
            self.depth = self._delete_delivered(self.depth)
        return self.has_delivered

    def write(
        self,
        writes: Sequence[PendingWrite],
        cursors: Mapping[str, int],
        sums: HourlySums | None,
        damaged: Collection[int],
    ) -> list[Earlier | None]:
        """Write one transaction: batches, receipts, keys of requests, ledger entries and moved
        cursors. Quarantine damaged batches. If ``sums`` are given, write them and the entries of
        all gaps. All is durable on return. Returns for each write what was stored under its key
        before; if that is not ``None``, the write is not stored."""
        new, found = list(writes), list[Earlier | None]([None] * len(writes))
        with self.transaction():
            if any(write.key is not None for write in writes):
                found = idempotency.earlier(self.db, [write.keyed for write in writes])
                new = [write for write, each in zip(writes, found, strict=True) if each is None]
                idempotency.add_keys(self.db, [write.keyed for write in new])
            depth = self.depth
            for sequence in damaged:
                idempotency.forget_batch(self.db, sequence)
                depth = self._delete(depth, "WHERE sequence = ?", sequence, copy_to="damaged")
            if damaged:
                self.accounts.count_damaged()
            if cursors:
                self.accounts.deliver(cursors)
            batches = merge_for_commit(batch for write in new for batch in write.batches)
            tip, added = self._add_all(batches)
            notes = self.accounts.take(added, self.last, tip.sequence, is_due=sums is not None)
            if notes := [*notes, *(note for write in writes for note in write.notes)]:
                append_all(self.db, self._path, notes)
            if sums:
                self.db.executemany(NEW_HOUR, [(*key, times) for key, times in sums.items()])
            depth += added
            if cursors or self.has_delivered or self.accounts.is_skipping:
                depth = self._delete_delivered(depth, tip.sequence, added.bytes)
        self.depth = depth
        if tip != self.chain_tip:
            self.tip = self.chain_tip = tip
        return found

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run a block as a transaction. A commit that fails leaves nothing in the log."""
        with transaction(self.db, self._truncate_log):
            yield
            self.accounts.store()

    def _truncate_log(self) -> None:
        with suppress(OSError):
            truncate_log(self._path, self.index)

    def select(self, sink: str, sequence: int, last: int, limit: int) -> Selection:
        """Select the next batches for a sink after a number and up to ``last``: at most ``limit``,
        and no more than one transaction of a sink may take."""
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
        """Yield number and batch of all that a sink needs after a number; ``None`` for a damaged
        batch."""
        for at, upto in self.accounts.needed(sink, sequence):
            row = self._reader.execute(_NEXT, (at,)).fetchone()
            while row is not None and row[0] <= min(upto, last):
                yield row[0], self._recent.known.get(row[0]) or self.get(row[0])
                row = self._reader.execute(_NEXT, row).fetchone()

    def get(self, sequence: int) -> Batch | None:
        """Return the batch with a number; ``None`` if it is missing or damaged."""
        row = self._reader.execute(_BY_NUMBER, (sequence,)).fetchone()
        return None if row is None else batch_of(row, self.layouts)

    def first(self) -> tuple[int, str] | None:
        """Return number and minute of the oldest batch."""
        query = "SELECT sequence, received FROM batches ORDER BY sequence LIMIT 1"
        found: tuple[int, str] | None = self._reader.execute(query).fetchone()
        return found

    def has_room(self, size: int) -> bool:
        """Return whether the disk has room for ``size`` bytes in the log and in the file."""
        free, page = (number_of(self.db, name) for name in ("freelist_count", "page_size"))
        with suppress(OSError):
            need_room(self._path.parent, size + max(0, size - free * page))
            return True
        return False

    def copy_log(self) -> None:
        """Copy the present contents of the log into the file, while commits go on."""
        copy_log(self._copier)

    def checkpoint(self) -> bool:
        """Copy the log into the file and truncate it; return ``False`` if a reader prevents that.
        Does not wait for readers, because senders would wait too."""
        return checkpoint(self.db)

    def close(self) -> None:
        """Close the file, whatever state it is in."""
        for each in (self._copier, self._reader, self.db):
            with suppress(sqlite3.Error):
                each.close()
        self.index.close()

    def _add(self, batch: Batch, records: int, found: StoredRecords, number: int) -> None:
        layout = layout_of(batch)
        self._add_layout(layout)
        head = (number, batch.id, layout.digest, batch.received)
        row = (*head, *_sealed(batch, records, found), encode_granted(batch.granted), number)
        self.db.execute(NEW_BATCH, row)

    def _add_receipt(self, batch: Batch, tally: Tally, tip: Tip, commitment: bytes | None) -> Tip:
        receipt = issue(tip, batch.received, layout_of(batch).digest, tally, commitment)
        self.db.execute(NEW_RECEIPT, receipt.as_row())
        return Tip(receipt.sequence, receipt.hash)

    def replace(self, sequence: int, batch: Batch, payload: bytes, tip: Tip) -> Tip:
        """Within a transaction, replace the payload of a batch under a new receipt; return the new
        tip. The caller calls ``load``."""
        batch = dataclasses.replace(batch, payload=payload)
        commitment, sealed = _sealed_anew(batch)
        tip = self._add_receipt(batch, Tally(), tip, commitment)
        self.db.execute(REVISED_BATCH, (*sealed, tip.sequence, sequence))
        return tip

    def _add_all(self, batches: Iterable[PendingBatch]) -> tuple[Tip, Depth]:
        """Insert receipts, and the batches that are not empty; return the new tip and what was
        added."""
        tip, added = self.chain_tip, Depth()
        for pending in batches:
            batch, commitment = new_batch(pending), None
            if pending.payload:
                found, number = pending.stored or stored(pending.payload), tip.sequence + 1
                commitment = found.commitment
                self._add(batch, pending.record_count, found, number)
                self._recent.add(number, batch)
                added += Depth(1, pending.record_count, len(found.payload))
            tip = self._add_receipt(batch, pending.tally, tip, commitment)
        if tip != self.chain_tip:
            self.db.execute(NEW_TIP, (tip.sequence, tip.hash))
        return tip, added

    def _add_layout(self, layout: Layout) -> None:
        if layout.digest in self.layouts:
            return
        row = (layout.digest, layout.schema, layout.table, layout_seal(layout))
        self.db.execute(NEW_LAYOUT, row)
        columns = [(layout.digest, at, *column) for at, column in enumerate(layout.columns)]
        self.db.executemany(NEW_COLUMN, columns)
        self.layouts[layout.digest] = layout

    def _delete_delivered(self, depth: Depth, last: int | None = None, written: int = 0) -> Depth:
        """Delete some of the batches that no sink needs; return the new depth. At least as many
        bytes as the transaction has ``written`` may be deleted, so that batches do not pile up."""
        self.has_delivered = False
        accounts, left = self.accounts, max(_MOST_DELETED_BYTES, written)
        if not accounts.rows:
            return depth
        present = accounts.cursors.items()
        reading = (at for sink, at in present if not accounts.is_closed(sink))
        self._recent.forget(min(reading, default=self.last))
        for after, upto in accounts.unneeded(self.last if last is None else last):
            end = after
            for number, size in self.db.execute(_LENGTHS, (after, upto)):
                self.has_delivered = left <= 0
                if self.has_delivered:
                    break
                end, left = number, left - size
            depth = self._delete(depth, _WITHIN, after, end)
            if self.has_delivered:
                break
        return depth

    def _delete(self, depth: Depth, where: str, *numbers: int, copy_to: str | None = None) -> Depth:
        """Delete batches, after copying them to the table ``copy_to`` if given; return the new
        depth."""
        execute = self.db.execute
        batches, records, size = execute(f"{_DEPTH} {where}", numbers).fetchone()
        if not batches:
            return depth
        if copy_to is not None:
            execute(f"INSERT OR IGNORE INTO {copy_to} SELECT * FROM batches {where}", numbers)  # noqa: S608
        execute(f"DELETE FROM batches {where}", numbers)  # noqa: S608 - constants
        return Depth(depth.batches - batches, depth.records - records, depth.bytes - size)


def new_batch(pending: PendingBatch) -> Batch:
    """Build a batch from a pending one, with its id or a random id, and its rows if they are
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


def _sealed(batch: Batch, records: int, found: StoredRecords) -> tuple[object, ...]:
    """Return the part of a batch's row that depends on its records: number, salt, seal, payload."""
    head = (batch.id, layout_of(batch).digest, batch.received, records)
    seal = batch_seal(found.salt, found.commitment, encode_granted(batch.granted), *head)
    return records, found.salt, seal, found.payload


def _sealed_anew(batch: Batch) -> tuple[bytes, tuple[object, ...]]:
    """Return the commitment to the records of a batch, and the values of ``_sealed``."""
    found = stored(batch.payload)
    return found.commitment, _sealed(batch, count_lines(batch.payload), found)


# -- removing records ------------------------------------------------------------------------------

_MINUTE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:00Z"
_OLD = f"(received < ? OR received NOT GLOB '{_MINUTE}')"


def rewrite(
    file: SpoolFile, path: Path, rules: Sequence[Rule], *, damaged: str, hours: str = FIRST
) -> list[Removal]:
    """Carry out rules; return what each has removed. Delete damaged batches from before the minute
    ``damaged`` and hourly sums from before ``hours``; both count for the first rule. Unless all
    rules are by age and nothing was deleted, no byte of deleted data stays.

    Raises ``sqlite3.Error`` or ``OSError``.
    """
    execute, is_by_age = file.db.execute, all(rule.now is not None for rule in rules)
    with compacting(file.db, path) as write_anew, file.transaction():
        unreadable = list[tuple[str, int]]()
        waiting = _rewrite_batches(file, rules, unreadable)
        refused = _rewrite_aside(file, rules, unreadable)
        total = added(waiting, refused)
        file.accounts.recount("expired" if is_by_age else "erased")
        for table, rowid in unreadable:
            source = f"FROM {table} WHERE rowid = ?"
            execute(f"INSERT OR IGNORE INTO damaged SELECT {BATCH} {source}", (rowid,))
            execute(f"DELETE {source}", (rowid,))
        if unreadable:
            file.accounts.count_damaged()
        gone = execute(f"DELETE FROM damaged WHERE {_OLD}", (damaged,)).rowcount  # noqa: S608
        forget_keys(file.db)
        sums = execute("DELETE FROM hours WHERE hour < ?", (hours,)).rowcount
        if gone or any(total) or not is_by_age:
            write_anew("batches", "aside", "damaged")
    file.load()
    is_swept = empty_log(file.db, path)
    total[0] += Removal(damaged=gone, hours=sums)
    return [each + Removal(is_swept=is_swept) for each in total]


def _rewrite_batches(
    file: SpoolFile, rules: Sequence[Rule], unreadable: list[tuple[str, int]]
) -> list[Removal]:
    """Carry out rules on waiting batches, within a transaction. Add the tables and row ids of
    damaged batches to ``unreadable``."""
    execute, tip, total = file.db.execute, file.chain_tip, [Removal() for _ in rules]
    until = max(rule.until for rule in rules)
    query = f"SELECT sequence FROM batches WHERE {_OLD} ORDER BY sequence"  # noqa: S608
    for (sequence,) in execute(query, (until,)).fetchall():
        batch = file.get(sequence)
        if batch is None:
            unreadable.append(("batches", sequence))
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


def _rewrite_aside(
    file: SpoolFile, rules: Sequence[Rule], unreadable: list[tuple[str, int]]
) -> list[Removal]:
    """Do the same for batches that were set aside."""
    execute, total = file.db.execute, [Removal() for _ in rules]
    query = f"SELECT rowid FROM aside WHERE {_OLD}"  # noqa: S608 - constants
    one = f"SELECT {BATCH} FROM aside WHERE rowid = ?"  # noqa: S608 - together they may not fit into memory
    for (rowid,) in execute(query, (max(rule.until for rule in rules),)).fetchall():
        batch = batch_of(execute(one, (rowid,)).fetchone(), file.layouts)
        if batch is None:
            unreadable.append(("aside", rowid))
            continue
        payload, done = redact(batch.payload, rules, batch.received)
        if any(done):
            _, sealed = _sealed_anew(dataclasses.replace(batch, payload=payload))
            execute(REVISED_ASIDE, (*sealed, rowid))
        total = [a + b + Removal(batches=bool(b)) for a, b in zip(total, done, strict=True)]
    execute("DELETE FROM aside WHERE length(payload) = 0")
    return total
