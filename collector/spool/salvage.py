"""What can still be read of a damaged file, put into a new one.

A batch is taken if its seal says that it is as it was written; receipts and entries up to the first
that does not follow on the one before it. After that a new chain begins, marked as what it is.
Cursors are left behind: a sink takes a batch twice without effect, and a wrong cursor would lose
some.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from collector.contracts import Layout
from collector.ledger.entry import Entry
from collector.ledger.journal import NEW_DOCUMENT, NEW_ENTRY, SELECT_ENTRIES, SET_LAST
from collector.ledger.receipt import NOTHING, Start, Tip, commit
from collector.ledger.stored import Ledger
from collector.ledger.verification import Verification
from collector.spool.file import create
from collector.spool.keys import NEW_KEY
from collector.spool.tables import (
    NEW_BATCH,
    NEW_COLUMN,
    NEW_DAMAGED,
    NEW_HOUR,
    NEW_LAYOUT,
    NEW_RECEIPT,
    NEW_START,
    batch_columns,
    besides,
    seal,
)

__all__ = ["salvage"]

_MOST_PROBES = 100_000
_MOST_SEQUENCE = 1 << 53
_OTHERS = (
    ("SELECT * FROM hours", NEW_HOUR),
    ("SELECT hash FROM keys ORDER BY number", NEW_KEY),
    ("SELECT digest, text FROM documents", NEW_DOCUMENT),
)
_Row = tuple[Any, ...]


def salvage(copy: Path, new: Path, layouts: Iterable[Layout], floor: int = 0) -> None:
    """Make a new file out of the copy of a damaged one; ``layouts`` are known without it,
    and numbers up to ``floor`` were given out.

    Raises ``sqlite3.Error`` or ``OSError`` if the new one cannot be written.
    """
    with closing(sqlite3.connect(copy, isolation_level=None)) as source:
        source.text_factory = _text
        with closing(create(new)) as target:
            target.execute("BEGIN IMMEDIATE")
            known = _layouts(source, target) | {layout.digest for layout in layouts}
            tip = _receipts(source, target)
            last = max(_batches(source, target, known), _last(source), tip.sequence, floor)
            target.execute("UPDATE tip SET sequence = ?, hash = ?", (tip.sequence, tip.hash))
            target.execute(NEW_START, (last + 1, "damaged", tip.hash))
            _entries(source, target)
            set_aside = f"SELECT {batch_columns(source)} FROM damaged"  # noqa: S608 - constants
            for query, insert in ((set_aside, NEW_DAMAGED), *_OTHERS):
                for row in _rows(source, query):
                    with suppress(sqlite3.IntegrityError, sqlite3.ProgrammingError):
                        target.execute(insert, row)
            target.execute("COMMIT")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _rows(source: sqlite3.Connection, query: str, *values: object) -> Iterator[_Row]:
    """What a query gives before it meets damage."""
    with suppress(sqlite3.Error):
        yield from source.execute(query, values)


def _layouts(source: sqlite3.Connection, target: sqlite3.Connection) -> set[str]:
    """Copy the layouts; their digests. A wrong one is found by its seal when it is used."""
    found = set()
    for row in _rows(source, "SELECT digest, schema, name, seal FROM layouts"):
        with suppress(sqlite3.IntegrityError):
            target.execute(NEW_LAYOUT, row)
            found.add(row[0])
    for row in _rows(source, "SELECT digest, position, name, type FROM columns"):
        with suppress(sqlite3.IntegrityError):
            target.execute(NEW_COLUMN, row)
    return found


def _receipts(source: sqlite3.Connection, target: sqlite3.Connection) -> Tip:
    """Copy receipts, and the starts of their chains, as far as they verify; the last of them."""
    starts = {1: Start(1, "new")}
    with suppress(sqlite3.Error):
        starts |= Ledger(source.execute).starts
    seen, tip = Verification(), Tip(0, NOTHING)
    with suppress(sqlite3.Error):
        for receipt in Ledger(source.execute).receipts():
            start = starts.get(receipt.sequence)
            seen.take(receipt, start)
            if seen.flaws:
                break
            if start is not None:
                target.execute(NEW_START, (start.first, start.reason, start.after))
            target.execute(NEW_RECEIPT, receipt.as_row())
            tip = seen.tip
    return tip


def _entries(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy entries as far as they follow on each other; the next will say if some are lost."""
    last = Tip(0, NOTHING)
    for row in _rows(source, f"{SELECT_ENTRIES} ORDER BY sequence"):
        entry = Entry.from_row(row)
        if not entry.follows(last):
            break
        target.execute(NEW_ENTRY, entry.as_row())
        last = Tip(entry.sequence, entry.hash)
    highest = _highest(source, "entries", "last_entry")
    target.execute(SET_LAST, (highest, last.hash if highest == last.sequence else NOTHING))


def _batches(source: sqlite3.Connection, target: sqlite3.Connection, known: set[str]) -> int:
    """Copy the batches that are as they were written; the highest number met."""
    highest, columns = 0, batch_columns(source)
    for sequence in _sequences(source):
        highest = max(highest, sequence)
        for row in _rows(source, f"SELECT {columns} FROM batches WHERE sequence = ?", sequence):  # noqa: S608
            if row[2] in known and _is_whole(row):
                target.execute(NEW_BATCH, row)
    return highest


def _is_whole(row: _Row) -> bool:
    _, id_, layout, received, records, salt, sealed, payload, granted = row
    if not all(isinstance(part, bytes) for part in (id_, salt, sealed, payload)):
        return False
    expected = seal(salt, commit(salt, payload), id_, layout, received, records, *besides(granted))
    return hmac.compare_digest(expected, sealed)


def _sequences(source: sqlite3.Connection) -> list[int]:
    """The numbers of batches from both ends up to what is damaged, and tries between."""
    query = "SELECT sequence FROM batches ORDER BY sequence"
    upwards = [row[0] for row in _rows(source, query)]
    downwards = [row[0] for row in _rows(source, f"{query} DESC")]
    found = {n for n in (*upwards, *downwards) if isinstance(n, int) and 0 < n < _MOST_SEQUENCE}
    if upwards == downwards[::-1]:
        return sorted(found)  # there is nothing between
    first = upwards[-1] if upwards else 0
    last = downwards[-1] if downwards else first + _MOST_PROBES
    found.update(range(first, min(last, first + _MOST_PROBES)))
    return sorted(found)


def _last(source: sqlite3.Connection) -> int:
    """The highest number that the damaged file has given out, as far as it can be read."""
    return _highest(source, "tip", "receipts", "cursors")


def _highest(source: sqlite3.Connection, *tables: str) -> int:
    queries = [f"SELECT max(sequence) FROM {name}" for name in tables]  # noqa: S608 - constants
    found = (row[0] for query in queries for row in _rows(source, query))
    return max((n for n in found if isinstance(n, int) and n < _MOST_SEQUENCE), default=0)
