"""Less in a spool: what is to go leaves the batches that wait, and damaged ones go whole.

A receipt is never changed. What is left of a batch goes on, with the id that it had, under a
receipt of its own, the last of all: it counts nothing, as what it commits to was counted before.
Numbers of batches are spent once, so a sink that has the batch already gets it again, and knows it
by its id.

Then both tables are written anew: what is deleted is overwritten where it lies, but not the copies
that were made when pages were divided and joined.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.compaction import empty_log
from collector.contracts import Spooled, Tally
from collector.ledger.receipt import SALT_BYTES, Tip, commit, issue
from collector.spool.file import File
from collector.spool.tables import NEW_BATCH, NEW_RECEIPT, besides, seal, written

__all__ = ["ALWAYS", "NEVER", "Outcome", "Revision", "revise"]

NEVER, ALWAYS = "", "~"
"""Before every minute, and after: bounds of which nothing and everything comes before."""

_MINUTE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:00Z"
_OLD = f"(received < ? OR received NOT GLOB '{_MINUTE}')"


@dataclass(frozen=True, slots=True, repr=False)
class Revision:
    """What is to go: ``change`` is given a batch's payload and minute, and returns what is left of
    the payload, and how many of its records have less in them.

    It is asked for batches that were received before ``before``; damaged ones from before
    ``damaged`` go, as do sums of hours before ``hours``. If ``always``, the tables are written anew
    even if nothing of this was there; ``wait`` is for how many seconds a reader is waited for.
    """

    change: Callable[[bytes, str], tuple[bytes, int]]
    before: str = ALWAYS
    damaged: str = NEVER
    hours: str = NEVER
    always: bool = False
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done: batches that were changed or are gone, their records that were, of these the
    ones that are ``gone``, and damaged batches that are. ``is_swept`` says that no bytes of it are
    left in the file or its log: else somebody is reading an earlier state."""

    batches: int
    records: int
    gone: int
    damaged: int
    hours: int
    is_swept: bool


def revise(file: File, path: Path, revision: Revision) -> Outcome:
    """Carry a revision out. Raises ``sqlite3.Error`` or ``OSError``, and what ``change`` raises."""
    execute = file.db.execute
    execute("BEGIN IMMEDIATE")
    try:
        batches, records, gone = _revise_batches(file, revision)
        damaged = execute(f"DELETE FROM damaged WHERE {_OLD}", (revision.damaged,)).rowcount  # noqa: S608
        hours = execute("DELETE FROM hours WHERE hour < ?", (revision.hours,)).rowcount
        if batches or damaged or revision.always:
            for table in ("batches", "damaged"):
                execute(f"CREATE TEMP TABLE left_over AS SELECT * FROM {table}")  # noqa: S608
                execute(f"DELETE FROM {table}")  # noqa: S608
                execute(f"INSERT INTO {table} SELECT * FROM left_over ORDER BY sequence")  # noqa: S608
                execute("DROP TABLE left_over")
        execute("COMMIT")
    except BaseException:
        if file.db.in_transaction:
            execute("ROLLBACK")
        raise
    file.load()
    is_swept = empty_log(file.db, path, revision.wait)
    return Outcome(batches, records, gone, damaged, hours, is_swept)


def _revise_batches(file: File, revision: Revision) -> tuple[int, int, int]:
    """How many batches were changed, how many of their records, and how many of these are gone."""
    execute, tip, changed, records, gone = file.db.execute, file.follows, 0, 0, 0
    query = f"SELECT sequence FROM batches WHERE {_OLD} ORDER BY sequence"  # noqa: S608
    for (sequence,) in execute(query, (revision.before,)).fetchall():
        found = file.next(sequence - 1)
        if found is None or found[1] is None:
            execute("INSERT INTO damaged SELECT * FROM batches WHERE sequence = ?", (sequence,))
            execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
            continue
        spooled = found[1]
        payload, number = revision.change(spooled.payload, spooled.received)
        if not number:
            continue
        execute("DELETE FROM batches WHERE sequence = ?", (sequence,))
        if payload:
            tip = _amend(file, spooled, payload, tip)
        changed, records = changed + 1, records + number
        gone += spooled.payload.count(b"\n") - payload.count(b"\n")
    if tip != file.follows:
        execute("INSERT OR REPLACE INTO tip VALUES (1, ?, ?)", (tip.sequence, tip.hash))
    return changed, records, gone


def _amend(file: File, spooled: Spooled, payload: bytes, tip: Tip) -> Tip:
    """What is left of a batch, and the receipt that it has from now on."""
    salt, digest = secrets.token_bytes(SALT_BYTES), spooled.layout.digest
    commitment = commit(salt, payload)
    parts = (spooled.id, digest, spooled.received, payload.count(b"\n"))
    granted = written(spooled.granted)
    sealed = seal(salt, commitment, *parts, *besides(granted))
    file.db.execute(NEW_BATCH, (tip.sequence + 1, *parts, salt, sealed, payload, granted))
    receipt = issue(tip, spooled.received, digest, Tally(), commitment)
    file.db.execute(NEW_RECEIPT, receipt.as_row())
    return Tip(receipt.sequence, receipt.hash)
