"""Opening the spool's file whatever has become of it.

A file that is torn, cut short, foreign or damaged is set aside under another name, and what can be
read of it goes into a new one: every batch that is as it was written, and the receipts up to the
first that is not. The file itself is never changed for that: batches are read from a copy.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from collector.contracts import Layout
from collector.directory import sync
from collector.errors import ConfigError
from collector.ledger.entry import ENTRY_COLUMNS
from collector.ledger.receipt import COLUMNS, NOTHING, Start, Tip
from collector.ledger.stored import Ledger
from collector.ledger.verification import Verification
from collector.spool.file import File, create
from collector.spool.log import is_log, last_commit, overlaid
from collector.spool.salvage import salvage
from collector.spool.tables import APPLICATION, BATCH, BATCH_BEFORE, FORMAT, NEW_START, upgrade

__all__ = ["DAMAGED", "Opened", "is_corrupt", "open_file"]

DAMAGED = ".damaged-"
"""What stands between a file's name and the time at which it was set aside."""

_PART, _NEW, _COPY = ".part", ".new", ".copy"
"""A file in the making, one that is made, and one to read from."""

_MAGIC = b"SQLite format 3\0"
_HEAD = 100
_WHOLE_BYTES = 256 << 20
"""A file of up to so many bytes is checked whole; of larger ones, all but the receipts."""
_NEWEST = 1000
_READ = {
    "about": "format",
    "layouts": "digest, schema, name, seal",
    "columns": "digest, position, name, type",
    "batches": BATCH,
    "damaged": BATCH,
    "cursors": "sink, sequence, seal",
    "hours": "hour, what, name, reason, times",
    "keys": "number, hash",
    "receipts": ", ".join(COLUMNS),
    "starts": "first, reason, after",
    "tip": "one, sequence, hash",
    "entries": ", ".join(ENTRY_COLUMNS),
    "last_entry": "one, sequence, hash",
    "documents": "digest, text",
}
_SINCE = {"keys": 2, "entries": 3, "last_entry": 3, "documents": 3}
"""The format in which a table came, where it was not there from the first."""
_GRANTED_SINCE = 4
"""The format in which batches said what they may be used for."""
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors that say nothing about what the file holds."""


_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class _DamagedError(Exception):
    """The file is not what we wrote."""


def is_corrupt(error: Exception) -> bool:
    """Whether an error says that the file cannot be what was written."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _CORRUPT


def _is_damage(error: Exception) -> bool:
    """Whether it is the file that could not be opened, rather than the system that did not let us:
    anything that a foreign file may cause."""
    if isinstance(error, OSError | ConfigError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return is_corrupt(error) or code & 0xFF not in _PASSING


@dataclass(frozen=True, slots=True)
class Opened:
    """The file, and what was found to be damaged: the names under which files were set aside, and
    whether the last receipts were not as they should be, so that a new chain begins."""

    file: File
    aside: list[Path]
    is_mended: bool


def open_file(
    path: Path,
    layouts: Iterable[Layout],
    sinks: Sequence[str],
    *,
    suspect: bool = False,
    floor: int = 0,
) -> Opened:
    """Open the file, or make it, with everything in it that can be read.

    What is in it then is on disk for certain. ``suspect`` says that it is known to be damaged;
    no batch that comes later has a number up to ``floor``.

    Raises ``sqlite3.Error`` or ``OSError`` while the system does not let us, and ``ConfigError``
    E203 for a file of a newer version.
    """
    layouts, aside = tuple(layouts), _resumed(path)
    file = _whole(path, suspect)
    if file is None:
        salvage(_beside(path, _COPY), _beside(path, _PART), layouts, floor)
        _beside(path, _PART).rename(_beside(path, _NEW))
        aside += _resumed(path)
        file = _whole(path, suspect=False)
    if file is None:
        raise OSError
    try:
        is_mended = _mended(file)
        file.fold()
        file.prepare(layouts, sinks)
    except BaseException:
        file.close()
        raise
    return Opened(file, aside, is_mended)


def _resumed(path: Path) -> list[Path]:
    """Go on where an earlier recovery stopped, or make the file; what was set aside."""
    new, log, aside = _beside(path, _NEW), _beside(path, "-wal"), []
    if new.exists():
        aside = _set_aside(path)
        new.rename(path)
    elif not path.exists():
        aside = _set_aside(path)
        _remove(path, _PART)
        create(_beside(path, _PART), Start(1, "new")).close()
        _beside(path, _PART).rename(path)
    elif log.exists() and not is_log(log):
        aside = _set_aside(path, only_log=True)
    _remove(path, _PART, _COPY)
    sync(path.parent)
    return aside


def _whole(path: Path, suspect: bool) -> File | None:
    """The file; if it is damaged, ``None``, and there is a copy to read from."""
    log, file = _beside(path, "-wal"), None
    frames = last_commit(log)
    suspect = suspect or not _is_ours(path)
    if not suspect:
        try:
            file = File(path)
            upgrade(file.db, _checked(file.db, path, frames))
            file.load()
        except Exception as error:
            suspect = _is_damage(error)
            if not suspect:
                if file is not None:
                    file.close()
                raise
    if suspect:
        overlaid(path, log, _beside(path, _COPY))
        if file is not None:
            file.close()  # only now: closing it may do away with its log
        return None
    return file


def _is_ours(path: Path) -> bool:
    """Whether a file says that it is a spool's."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        head = os.read(handle, _HEAD)
    finally:
        os.close(handle)
    return len(head) == _HEAD and head[:16] == _MAGIC and head[68:72] == APPLICATION.to_bytes(4)


def _checked(db: sqlite3.Connection, path: Path, frames: int) -> int:
    """The format of the file, if it is whole, and its log as long as it was written."""
    execute = db.execute
    format_ = execute("SELECT format FROM about").fetchone()[0]
    if format_ == execute("PRAGMA user_version").fetchone()[0] > FORMAT:
        raise ConfigError("E203", "the spool was written by a newer version of Collector")
    is_known = format_ in range(1, FORMAT + 1)
    if not is_known or execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1] < frames:
        raise _DamagedError
    tables = {name: columns for name, columns in _READ.items() if _SINCE.get(name, 1) <= format_}
    if format_ < _GRANTED_SINCE:
        tables |= {"batches": BATCH_BEFORE, "damaged": BATCH_BEFORE}
    for table, columns in tables.items():
        execute(f"SELECT {columns} FROM {table} LIMIT 0")  # noqa: S608 - constants
    is_small = path.stat().st_size <= _WHOLE_BYTES
    parts = [""] if is_small else [f"({table})" for table in tables if table != "receipts"]
    for part in parts:
        if execute(f"PRAGMA quick_check{part}").fetchone()[0] != "ok":
            raise _DamagedError
    return int(format_)


def _mended(file: File) -> bool:
    """See to it that the last receipts are a chain up to the tip. If not, a new one begins."""
    ledger, execute = Ledger(file.db.execute), file.db.execute
    newest = list(ledger.receipts(newest=_NEWEST))
    seen, starts = Verification(), ledger.starts
    if newest and newest[0].sequence not in starts:
        seen.tip = Tip(newest[0].sequence - 1, newest[0].previous)
    for receipt in newest:
        seen.take(receipt, starts.get(receipt.sequence))
    if not newest:
        seen.tip = Tip(0, NOTHING)
    if not seen.flaws and seen.tip == file.tip:
        return False
    last = max(seen.tip.sequence, file.tip.sequence)
    execute("BEGIN IMMEDIATE")
    execute("DELETE FROM starts WHERE first > ?", (seen.tip.sequence,))
    execute(NEW_START, (last + 1, "damaged", seen.tip.hash))
    execute("UPDATE tip SET sequence = ?, hash = ?", (seen.tip.sequence, seen.tip.hash))
    execute("COMMIT")
    file.load()
    return True


def _set_aside(path: Path, only_log: bool = False) -> list[Path]:
    """Rename a file and its log; the names that they have now. The log goes last, so that it is
    never left alone without a new file waiting."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    number, base = 1, f"{path.name}{DAMAGED}{stamp}"
    while any(path.with_name(base + end).exists() for end in ("", "-wal")):
        number += 1
        base = f"{path.name}{DAMAGED}{stamp}-{number}"
    aside = []
    for end in ("-wal",) if only_log else ("", "-wal"):
        old, kept = _beside(path, end), path.with_name(base + end)
        if old.exists() and (end == "" or old.stat().st_size):
            old.chmod(0o600)
            old.rename(kept)
            aside.append(kept)
    for end in ("-wal", "-shm"):
        _beside(path, end).unlink(missing_ok=True)
    return aside


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _remove(path: Path, *ends: str) -> None:
    for end in ends:
        for more in ("", "-wal", "-shm", "-journal"):
            _beside(path, end + more).unlink(missing_ok=True)
