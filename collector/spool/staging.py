"""Stage a large request: write its parts in several transactions, and accept all in the last one.

So others' commits go on between its parts, and none waits for more than one of them. A staged part
is a batch with a receipt that counts nothing, and its number is in the table ``staging``. As long
as it is there, no sink, count or command takes the part for accepted, and no later part goes to a
sink before it. The last transaction empties the table, adds the last record of each batch with a
receipt that has the counts, and stores the request's key. What is staged when the file is opened
was never acknowledged, and is deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from collector.contracts import Earlier, PendingBatch
from collector.files import need_room
from collector.ledger.receipt import Tip
from collector.spool import idempotency
from collector.spool.file import Depth, SpoolFile, new_batch
from collector.spool.tables import NEW_TIP, Part, Parts, note_part
from collector.spool.write_queue import (
    PendingWrite,
    last_parts,
    parts_before,
    unwritable,
)
from collector.sqlite.connection import number_of, transaction

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
