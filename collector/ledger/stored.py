"""Read the ledger and its tables from a spool's file, which may be in use."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from collector.contracts import CATEGORIES, DROPS, REJECTIONS, Tally, to_minute
from collector.errors import ConfigError, DeliveryError, file_name
from collector.files import failing_as
from collector.ledger.auditor import Audit, Checkpoint, Flaw
from collector.ledger.entry import KINDS, Entry, Kind
from collector.ledger.journal import SELECT_ENTRIES, decompress
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
from collector.ledger.signing import signature_check
from collector.schema.model import Schema
from collector.schema.stored_document import load_stored
from collector.sqlite.connection import connect_to_read, decode_leniently

FORMAT = 1
"""The format of a spool's file, which contains the ledger."""
RECORDER_FILE = "recorder.db"
"""The name of a recorder's database. Its ledger has entries but no receipts."""
UNKNOWN_FORMAT = "the spool has a format that this version of Collector does not know"

_REJECTED = "".join(f"{reason} INTEGER NOT NULL, " for reason in REJECTIONS)
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
_COUNTED = ("received", "admitted", *REJECTIONS)
_LOW = (1 << 32) - 1
_Rows = Callable[[str], Iterable[tuple[Any, ...]]]


def require_known_format(db: sqlite3.Connection) -> None:
    """Raise ``ConfigError`` E203 for a spool's file that has another format. Two places state the
    format; if they differ, the file is damaged, and this does not raise. Raises
    ``sqlite3.Error``."""
    query = "SELECT format FROM about UNION SELECT user_version FROM pragma_user_version"
    found = [row[0] for row in db.execute(query)]
    if len(found) == 1 and found != [FORMAT]:
        raise ConfigError("E203", UNKNOWN_FORMAT)


def _count(total: Tally, what: str, name: Any, reason: Any, times: Any) -> None:
    """Put a sum of hours into a tally that has no sum of that kind yet."""
    if what == "dropped" and reason in DROPS:
        total.dropped.setdefault(name, Counter())[reason] = as_number(times)
    elif what == "content" and name in CATEGORIES:
        total.content[name] = as_number(times)
    elif what == "bytes" and name in ("in", "out"):
        setattr(total, f"bytes_{name}", as_number(times))


class Ledger:
    """The ledger of a spool's file at one moment; ``rows`` runs a query on the file.

    If ``opened`` yielded the ledger, its methods raise ``DeliveryError`` E507 for an unreadable
    file.
    """

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    @property
    def starts(self) -> dict[int, Start]:
        """The starts of chains, by the first receipt."""
        rows = self._rows("SELECT first, reason, after FROM starts")
        starts = (Start(as_number(row[0]), row[1], as_bytes(row[2])) for row in rows)
        return {start.first: start for start in starts}

    @property
    def tip(self) -> Tip | None:
        """The last receipt according to the file."""
        return self._tip_in("tip")

    def receipts(self, newest: int | None = None) -> Iterator[Receipt]:
        """Yield all receipts in order, or only the last ``newest`` ones."""
        query = f"SELECT {', '.join(COLUMNS)} FROM receipts"  # noqa: S608 - constants
        if newest is not None:
            query = f"SELECT * FROM ({query} ORDER BY sequence DESC LIMIT {int(newest)})"  # noqa: S608
        return map(Receipt.from_row, self._rows(f"{query} ORDER BY sequence"))

    def tally(self) -> Tally:
        """Return the counts of all receipts, and the hourly sums that are still stored.

        Each count is added up in two halves, because a worker may state counts whose sum overflows
        SQLite's integers.
        """
        halves = ", ".join(
            f"ifnull(sum({name} >> 32), 0), ifnull(sum({name} & {_LOW}), 0)" for name in _COUNTED
        )
        (row,) = self._rows(f"SELECT {halves} FROM receipts")  # noqa: S608 - constants
        sums = [as_number(each) for each in row]
        pairs = zip(sums[::2], sums[1::2], strict=True)
        received, admitted, *rejected = ((upper << 32) + lower for upper, lower in pairs)
        total = Tally(received, admitted)
        total.rejected.update(dict(zip(REJECTIONS, rejected, strict=True)))
        query = "SELECT what, name, reason, sum(times) FROM hours GROUP BY what, name, reason"
        for row in self._rows(query):
            _count(total, *row)
        return total

    def hourly(self, since: datetime) -> dict[str, Tally]:
        """Return the sums of each stored hour since ``since``: dropped fields, content, bytes."""
        found: dict[str, Tally] = {}
        query = "SELECT hour, what, name, reason, times FROM hours"
        for hour, *row in self._rows(f"{query} WHERE hour >= '{to_minute(since)}'"):
            _count(found.setdefault(hour, Tally()), *row)
        return found

    @property
    def last_entry(self) -> Tip | None:
        """The last entry according to the file."""
        return self._tip_in("last_entry") if self._has("entries") else None

    def _tip_in(self, table: str) -> Tip | None:
        rows = self._rows(f"SELECT sequence, hash FROM {table}")  # noqa: S608 - constants
        return next((Tip(as_number(row[0]), as_bytes(row[1])) for row in rows), None)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries in order; none if their table is missing."""
        query = f"{SELECT_ENTRIES} ORDER BY sequence"
        return map(Entry.from_row, self._rows(query) if self._has("entries") else ())

    def newest(self, kind: Kind) -> Entry | None:
        """Return the last entry of a kind."""
        query = f"{SELECT_ENTRIES} WHERE kind = '{kind}' ORDER BY sequence DESC LIMIT 1"
        rows = self._rows(query) if self._has("entries") and kind in KINDS else ()
        return next(map(Entry.from_row, rows), None)

    def documents(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield digests and their documents; ``None`` for a document that has another digest."""
        rows = self._rows("SELECT digest, text FROM documents") if self._has("entries") else ()
        return ((row[0], decompress(row[0], as_bytes(row[1]))) for row in rows)

    def digest(self, kind: Kind) -> str | None:
        """Return the digest of the document that the last entry of a kind names."""
        newest = self.newest(kind)
        return None if newest is None else newest.fact("digest")

    def document(self, digest: str | None) -> bytes | None:
        """Return the document of a digest; ``None`` if it is missing, or has another digest."""
        return next((text for each, text in self.documents() if each == digest), None)

    def lines(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the whole ledger as arguments of ``Audit.add``, in the order of an export: what
        each line is, its text, its hash, and the signature of an entry."""
        for _, start in sorted(self.starts.items()):
            yield "start", start.text.decode(), start.hash.hex(), ""
        for entry in self.entries():
            yield "entry", entry.text.decode(), entry.hash.hex(), entry.signature.hex()
        for digest, document in self.documents():
            yield "document", (document or b"").decode(errors="replace"), digest, ""
        for receipt in self.receipts():
            yield "receipt", receipt.text.decode(), receipt.hash.hex(), ""
        nothing = Tip(0, NOTHING)
        ends = {"receipt": self.tip or nothing, "entry": self.last_entry or nothing}
        tips = "".join(f"{what} {tip.sequence} {tip.hash.hex()}\n" for what, tip in ends.items())
        yield "tips", tips, hashlib.sha256(tips.encode()).hexdigest(), ""

    def verify(self, noted: str | None = None, checkpoints: Iterable[Checkpoint] = ()) -> Audit:
        """Verify both chains, the commitments of pending batches, and the signatures if the extra
        for signing is installed. ``noted`` (the hash of a receipt) and ``checkpoints`` were stored
        elsewhere."""
        audit = Audit(signature_check(), *checkpoints)
        if not self._has("entries"):
            audit.flaws.append(Flaw("entry", 1, "the table of entries is missing"))
        for line in self.lines():
            audit.add(*line)
            noted = None if line[0] == "receipt" and line[2] == noted else noted
        audit.close()
        if noted is not None:
            last = audit.tips["receipt"][0]
            message = "the receipt that was noted earlier is not in the ledger"
            audit.flaws.append(Flaw("receipt", last, message))
        audit.flaws.extend(self._changed_batches())
        return audit

    @cached_property
    def _tables(self) -> frozenset[str]:
        return frozenset(str(row[0]) for row in self._rows("SELECT name FROM sqlite_master"))

    def _has(self, table: str) -> bool:
        return table in self._tables

    def _changed_batches(self) -> Iterator[Flaw]:
        """Yield the waiting batches that do not match their receipts. A recorder has no batches."""
        if not self._has("batches"):
            return
        query = (
            "SELECT sequence, salt, payload, layout, at, schema, minute, commitment"
            " FROM (SELECT receipt AS sequence, salt, payload, layout, received AS at FROM batches)"
            " LEFT JOIN receipts USING (sequence) ORDER BY sequence"
        )
        starts = self.starts.values()
        damaged = max((each.first for each in starts if each.reason == "damaged"), default=0)
        for number, salt, payload, layout, at, *receipt in self._rows(query):
            sequence = as_number(number)
            if receipt[-1] is None and sequence < damaged:
                continue  # the batch was recovered from a damaged file, but its receipt was not
            if receipt != [layout, at, commit(as_bytes(salt), as_bytes(payload))]:
                yield Flaw("receipt", sequence, "pending batch does not match the commitment")


def file_of(spool: Path) -> Path:
    """Return the file that has the ledger of a directory: the spool or a recorder's database."""
    recorder = spool.with_name(RECORDER_FILE)
    return recorder if recorder.is_file() and not spool.exists() else spool


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open the ledger in a spool's file read-only, or in the database of a recorder that uses the
    directory. Another process may be writing to it.

    Raises ``ConfigError`` E203 if there is no such file or it has another format, and
    ``DeliveryError`` E507 if it cannot be read.
    """
    path = file_of(path)
    if not path.is_file():
        where = file_name(path.parent)
        message = f"there is no ledger in {where}; name the data directory with `--data`"
        raise ConfigError("E203", message)
    db = connect_to_read(path)
    if db is None:
        raise _unreadable()
    with closing(decode_leniently(db)):
        with failing_as(_unreadable(), sqlite3.Error):
            require_known_format(db)

        def rows(query: str) -> Iterator[tuple[Any, ...]]:
            with failing_as(_unreadable(), sqlite3.Error):
                yield from db.execute(query)

        yield Ledger(rows)


def earlier_schemas(path: Path) -> dict[str, Schema]:
    """Return by digest the schemas with which a sidecar ever ran, the latest first, from the ledger
    in a spool's file. Schemas that no longer load are left out. Raises as ``opened``."""
    with opened(path) as ledger:
        digests = dict[str, None]()
        for entry in ledger.entries():
            if entry.kind == "schema":
                digest = entry.fact("digest") or ""
                digests.pop(digest, None)
                digests[digest] = None
        documents = dict(ledger.documents())
    loaded = {digest: load_stored(documents.get(digest) or b"") for digest in reversed(digests)}
    return {digest: schema for digest, schema in loaded.items() if schema is not None}


def _unreadable() -> DeliveryError:
    return DeliveryError("E507", "the ledger cannot be read: its file is damaged, or not a spool's")
