"""The ledger in a spool's file: its tables, and reading them while the file is in use."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from collector.contracts import CATEGORIES, DROPS, REJECTIONS, Tally
from collector.errors import ConfigError, DeliveryError
from collector.ledger.entry import KINDS, Entry, Kind
from collector.ledger.journal import SELECT_ENTRIES, SINCE, unpacked
from collector.ledger.receipt import (
    COLUMNS,
    NOTHING,
    Receipt,
    Start,
    Tip,
    as_bytes,
    as_number,
    commit,
)
from collector.ledger.signing import checker
from collector.ledger.trail import follow
from collector.ledger.verification import Verification, verify
from collector.readonly import connect

__all__ = ["TABLES", "Ledger", "opened"]

_REJECTED = "".join(f"{reason} INTEGER NOT NULL DEFAULT 0, " for reason in REJECTIONS)
_STARTS = "first INTEGER PRIMARY KEY, reason TEXT NOT NULL, after BLOB NOT NULL"
_TIP = "one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, hash BLOB NOT NULL"
_RECEIPTS = (
    "sequence INTEGER PRIMARY KEY, minute TEXT NOT NULL, schema TEXT NOT NULL,"
    f" received INTEGER NOT NULL, admitted INTEGER NOT NULL, {_REJECTED}"
    "commitment BLOB, previous BLOB NOT NULL, hash BLOB NOT NULL"
)
TABLES = (
    f"CREATE TABLE receipts ({_RECEIPTS}) STRICT",
    f"CREATE TABLE starts ({_STARTS}) STRICT",
    f"CREATE TABLE tip ({_TIP}) STRICT",
)
"""The ledger's tables."""


class Ledger:
    """The ledger of a spool's file, as it is at one moment; ``rows`` runs a query there.

    ``opened`` makes one whose methods raise ``DeliveryError`` E507 for what cannot be read.
    """

    def __init__(self, rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> None:
        self._rows = rows

    @property
    def starts(self) -> dict[int, Start]:
        """Where chains begin, by the first receipt."""
        rows = self._rows("SELECT first, reason, after FROM starts")
        starts = (Start(as_number(row[0]), row[1], as_bytes(row[2])) for row in rows)
        return {start.first: start for start in starts}

    @property
    def tip(self) -> Tip | None:
        """What the file notes as its last receipt."""
        rows = self._rows("SELECT sequence, hash FROM tip")
        return next((Tip(as_number(row[0]), as_bytes(row[1])) for row in rows), None)

    def receipts(self, newest: int | None = None) -> Iterator[Receipt]:
        """All receipts in order, or the newest so many."""
        names = ", ".join(COLUMNS)
        query = f"SELECT {names} FROM receipts"  # noqa: S608 - constants
        if newest is not None:
            query = f"SELECT * FROM ({query} ORDER BY sequence DESC LIMIT {int(newest)})"  # noqa: S608
        return map(Receipt.from_row, self._rows(f"{query} ORDER BY sequence"))

    def tally(self) -> Tally:
        """All that was received, and of what was dropped, met and weighed, what is still summed."""
        columns = ", ".join(
            f"ifnull(sum({name}), 0)" for name in ("received", "admitted", *REJECTIONS)
        )
        for received, admitted, *rejected in self._rows(f"SELECT {columns} FROM receipts"):  # noqa: S608
            total = Tally(as_number(received), as_number(admitted))
            total.rejected.update(dict(zip(REJECTIONS, map(as_number, rejected), strict=True)))
        query = "SELECT what, name, reason, sum(times) FROM hours GROUP BY what, name, reason"
        for what, name, reason, times in self._rows(query):
            if what == "dropped" and reason in DROPS:
                total.dropped.setdefault(name, Counter())[reason] = as_number(times)
            elif what == "content" and name in CATEGORIES:
                total.content[name] = as_number(times)
            elif what == "bytes" and name in ("in", "out"):
                setattr(total, f"bytes_{name}", as_number(times))
        return total

    @property
    def last_entry(self) -> Tip | None:
        """What the file notes as its last entry."""
        rows = self._rows("SELECT sequence, hash FROM last_entry") if self._has_entries else ()
        return next((Tip(as_number(row[0]), as_bytes(row[1])) for row in rows), None)

    def entries(self) -> Iterator[Entry]:
        """All entries in order; none in a file of an earlier format."""
        query = f"{SELECT_ENTRIES} ORDER BY sequence"
        return map(Entry.from_row, self._rows(query) if self._has_entries else ())

    def newest(self, kind: Kind) -> Entry | None:
        """The last entry of a kind."""
        query = f"{SELECT_ENTRIES} WHERE kind = '{kind}' ORDER BY sequence DESC LIMIT 1"
        rows = self._rows(query) if self._has_entries and kind in KINDS else ()
        return next(map(Entry.from_row, rows), None)

    def documents(self) -> Iterator[tuple[str, bytes | None]]:
        """Digests, and the documents that lie under them; ``None`` for one that is of another."""
        rows = self._rows("SELECT digest, text FROM documents") if self._has_entries else ()
        return ((row[0], unpacked(row[0], as_bytes(row[1]))) for row in rows)

    def digest(self, kind: Kind) -> str | None:
        """Of the document that the last entry of a kind names."""
        newest = self.newest(kind)
        return None if newest is None else newest.fact("digest")

    def document(self, digest: str | None) -> bytes | None:
        """The document of a digest; ``None`` if it is not there, or another."""
        return next((text for each, text in self.documents() if each == digest), None)

    def verify(self, noted: bytes | None = None, checkpoints: Iterable[Entry] = ()) -> Verification:
        """Verify both chains, the signatures if that is possible, and the commitments of batches
        that still wait. ``noted`` and ``checkpoints`` were kept elsewhere."""
        nothing = Tip(0, NOTHING)
        trail = follow(self.entries(), self.last_entry or nothing, checkpoints, checker())
        trail.look_for(dict(self.documents()))
        if not self._has_entries and self._format >= SINCE:
            trail.flaws.report(1, "the table of entries is gone, and all entries with it")
        tip = self.tip or nothing
        found = verify(self.receipts(), self.starts, tip, noted, trail.anchors)
        found.trail = trail
        self._check_batches(found)
        found.flaws.extend(trail.flaws)
        return found

    @cached_property
    def _has_entries(self) -> bool:
        query = "SELECT count(*) FROM sqlite_master WHERE name = 'entries'"
        return any(row[0] for row in self._rows(query))

    @cached_property
    def _format(self) -> int:
        """The format that the file says it has."""
        query = "SELECT format FROM about UNION SELECT user_version FROM pragma_user_version"
        return max(as_number(row[0]) for row in self._rows(query))

    def _check_batches(self, found: Verification) -> None:
        query = (
            "SELECT sequence, salt, payload, layout, at, schema, minute, commitment"
            " FROM (SELECT sequence, salt, payload, layout, received AS at FROM batches)"
            " LEFT JOIN receipts USING (sequence) ORDER BY sequence"
        )
        starts = self.starts.values()
        damaged = max((each.first for each in starts if each.reason == "damaged"), default=0)
        for number, salt, payload, layout, at, *receipt in self._rows(query):
            sequence = as_number(number)
            if receipt[-1] is None and sequence < damaged:
                continue  # it was saved from a damaged file, its receipt was not
            if receipt != [layout, at, commit(as_bytes(salt), as_bytes(payload))]:
                found.report(sequence, "the batch that waits under it is another")


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """The ledger in a spool's file, read-only; a process that writes it may be running.

    Raises ``ConfigError`` E203 when there is no such file, ``DeliveryError`` E507 when it cannot be
    read.
    """
    if not path.is_file():
        raise ConfigError("E203", "there is no spool in that directory; name another with --data")
    db = connect(path)
    if db is None:
        raise _unreadable()
    db.text_factory = _text
    with closing(db):

        def rows(query: str) -> Iterator[tuple[Any, ...]]:
            try:
                yield from db.execute(query)
            except sqlite3.Error:
                pass
            else:
                return
            raise _unreadable()

        yield Ledger(rows)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _unreadable() -> DeliveryError:
    return DeliveryError("E507", "the ledger cannot be read: its file is damaged, or no spool's")
