"""Revise a spool: delete records or fields from pending batches, and delete damaged batches.

A receipt is never changed. The rest of a batch keeps its id and gets a new receipt, the last of
all, which counts nothing, as its records were counted before. Numbers of batches are used once, so
a sink that has the batch already gets it again, and recognises it by its id.

Then both tables are rewritten: SQLite overwrites deleted rows in place, but not the copies that it
made when it split and merged pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collector.contracts import Batch, Tally, count_lines
from collector.spool.file import SpoolFile
from collector.spool.idempotency import forget_keys
from collector.spool.tables import NEW_TIP
from collector.sqlite.compaction import empty_log
from collector.sqlite.connection import transaction

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
    with transaction(file.db):
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
    with transaction(file.db):
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
