"""Open the spool's file, whatever its state.

A torn, truncated, foreign or damaged file is quarantined: it gets another name, and its readable
contents are copied into a new file. These are all intact batches, and the receipts up to the first
damaged one. The damaged file itself is never changed; batches are read from a copy.

The rest of a quarantined file is unknown, so it counts as personal data, and retention applies.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collector.contracts import Layout, Share
from collector.errors import ConfigError
from collector.files import NO_ROOM, check_file, sync
from collector.ledger.entry import Entry
from collector.ledger.journal import NEW_DOCUMENT, NEW_ENTRY, SELECT_ENTRIES, SET_LAST
from collector.ledger.receipt import NOTHING, Start, Tip
from collector.ledger.stored import Ledger
from collector.spool.file import SpoolFile
from collector.spool.idempotency import NEW_DAY, NEW_KEY
from collector.spool.lock import FILE_NAME as LOCK_NAME
from collector.spool.lock import check_lock
from collector.spool.tables import (
    BATCH,
    NEW_ACCOUNT,
    NEW_ASIDE,
    NEW_BATCH,
    NEW_COLUMN,
    NEW_DAMAGED,
    NEW_GAP,
    NEW_HOUR,
    NEW_LAYOUT,
    NEW_RECEIPT,
    NEW_START,
    account_row,
    check_format,
    check_version,
    checksum,
    create,
    is_intact,
    is_spool,
    read_accounts,
    read_gaps,
)
from collector.sqlite.compaction import remove_copies
from collector.sqlite.connection import (
    check_database,
    checkpoint,
    connect_unset,
    decode_leniently,
    is_transient,
    transaction,
)
from collector.sqlite.wal import copy_with_log, is_log, last_commit

_PART, _NEW, _COPY = ".part", ".new", ".copy"
"""Suffixes of an unfinished file, a finished one, and a copy for reading."""

_NEWEST = 1000


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An open file, the new names of ``quarantined`` files, and whether a new chain begins because
    the last receipts were damaged."""

    file: SpoolFile
    quarantined: list[Path]
    has_new_chain: bool


def open_file(
    path: Path,
    layouts: Iterable[Layout],
    shares: Mapping[str, Share],
    *,
    is_damaged: bool = False,
    floor: int = 0,
    admit: Callable[[Ledger], None] = lambda _: None,
) -> OpenedFile:
    """Open or create the file; recover all that is readable.

    On return the contents are on disk. ``is_damaged`` says that the caller knows of damage. No
    later batch gets a number up to ``floor``. ``admit`` gets the ledger before the file is prepared
    for ``shares``.

    Raises ``sqlite3.Error`` or ``OSError`` while the system does not permit it, ``ConfigError``
    E203 for a file of another format, and what ``admit`` raises.
    """
    layouts, quarantined = tuple(layouts), _resume(path)
    file = _open_intact(path, is_damaged)
    if file is None:
        _salvage(_sibling(path, _COPY), _sibling(path, _PART), layouts, floor)
        _sibling(path, _PART).rename(_sibling(path, _NEW))
        quarantined += _resume(path)
        file = _open_intact(path, is_damaged=False)
    if file is None:
        raise OSError
    try:
        has_new_chain = _repair_chain(file)
        file.checkpoint()
        admit(Ledger(file.db.execute))
        file.prepare(layouts, shares)
    except BaseException:
        file.close()
        raise
    return OpenedFile(file, quarantined, has_new_chain)


def check(path: Path) -> None:
    """Raise ``ConfigError`` E203 if reading shows that a spool can never be opened or recovered,
    and ``InUse`` if another process has locked its directory. Creates and changes nothing.
    """
    check_file(path.with_name(LOCK_NAME))
    check_database(path, _PART, _NEW, _COPY)
    check_version(path)
    check_lock(path.parent)


def try_open(
    path: Path,
    layouts: Iterable[Layout],
    shares: Mapping[str, Share],
    *,
    is_damaged: bool,
    floor: int,
    admit: Callable[[Ledger], None],
) -> OpenedFile | None:
    """Open the file as ``open_file`` does; return ``None`` while the system does not permit it.
    Raises ``ConfigError`` E203 when the file cannot be used at all, and what ``admit`` raises."""
    try:
        return open_file(path, layouts, shares, is_damaged=is_damaged, floor=floor, admit=admit)
    except sqlite3.Error:
        return None
    except OSError as error:
        if error.errno in (*NO_ROOM, errno.EIO):
            return None
    message = "the spool's file cannot be used; check what it is, and whether it may be written"
    raise ConfigError("E203", message)


def _resume(path: Path) -> list[Path]:
    """Resume an interrupted recovery, or create the file; return the names of quarantined files."""
    new, log, quarantined = _sibling(path, _NEW), _sibling(path, "-wal"), []
    if new.exists():
        quarantined = quarantine(path)
        new.rename(path)
    elif not path.exists():
        quarantined = quarantine(path)
        _remove(path, _PART)
        create(_sibling(path, _PART), Start(1, "new")).close()
        _sibling(path, _PART).rename(path)
    elif log.exists() and not is_log(log):
        quarantined = quarantine(path, only_log=True)
    _remove(path, _PART, _COPY)
    remove_copies(path)
    sync(path.parent)
    return quarantined


def _open_intact(path: Path, is_damaged: bool) -> SpoolFile | None:
    """Open the file; if it is damaged, copy it for reading, and return ``None``."""
    log, file = _sibling(path, "-wal"), None
    frames = last_commit(log)
    is_damaged = is_damaged or not is_spool(path)
    if not is_damaged:
        try:
            file = SpoolFile(path)
            # Another process that closes the file meanwhile may have emptied the log.
            check_format(file.db, path, lambda: min(frames, last_commit(log)))
            file.load()
        except Exception as error:
            is_damaged = not (isinstance(error, ConfigError) or is_transient(error))
            if not is_damaged:
                if file is not None:
                    file.close()
                raise
    if is_damaged:
        copy_with_log(path, log, _sibling(path, _COPY))
        if file is not None:
            file.close()  # only now: closing it may delete its log
        return None
    return file


def _repair_chain(file: SpoolFile) -> bool:
    """Check that the last receipts form a chain up to the tip. If not, begin a new chain, and
    return true."""
    ledger, execute = Ledger(file.db.execute), file.db.execute
    tip, starts, is_chain = Tip(0, NOTHING), ledger.starts, True
    for at, receipt in enumerate(ledger.receipts(newest=_NEWEST)):
        start = starts.get(receipt.sequence)
        if not at:
            tip = Tip(receipt.sequence - 1, start.after if start else receipt.previous)
        is_chain = is_chain and receipt.follows(tip, start)
        tip = Tip(receipt.sequence, receipt.hash)
    if is_chain and tip == file.tip:
        return False
    last = max(tip.sequence, file.tip.sequence)
    with transaction(file.db):
        execute("DELETE FROM starts WHERE first > ?", (tip.sequence,))
        execute(NEW_START, (last + 1, "damaged", tip.hash))
        execute("UPDATE tip SET sequence = ?, hash = ?", (tip.sequence, tip.hash))
    file.load()
    return True


def _sibling(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _remove(path: Path, *ends: str) -> None:
    for end in ends:
        for more in ("", "-wal", "-shm", "-journal"):
            _sibling(path, end + more).unlink(missing_ok=True)


_MOST_PROBES = 100_000
_MOST_SEQUENCE = 1 << 53
_OTHERS = (
    (f"SELECT {BATCH} FROM damaged", NEW_DAMAGED),  # noqa: S608 - constants
    (f"SELECT sink, {BATCH} FROM aside", NEW_ASIDE),  # noqa: S608
    ("SELECT * FROM hours", NEW_HOUR),
    ("SELECT day, secret FROM key_days", NEW_DAY),
    ("SELECT hash, day, body, counts FROM request_keys ORDER BY number", NEW_KEY),
    ("SELECT digest, text FROM documents", NEW_DOCUMENT),
)
_Row = tuple[Any, ...]


def _salvage(copy: Path, new: Path, layouts: Iterable[Layout], floor: int = 0) -> None:
    """Create a new file from the copy of a damaged one. ``layouts`` are known from elsewhere.
    Numbers up to ``floor`` are taken.

    Raises ``sqlite3.Error`` or ``OSError`` if the new file cannot be written.
    """
    with closing(decode_leniently(connect_unset(copy))) as source, closing(create(new)) as target:
        with transaction(target):
            known = _layouts(source, target) | {layout.digest for layout in layouts}
            tip = _receipts(source, target)
            last = max(_batches(source, target, known), tip.sequence, floor)
            last = max(last, _highest(source, "tip", "receipts", "sinks"))
            target.execute("UPDATE tip SET sequence = ?, hash = ?", (tip.sequence, tip.hash))
            target.execute(NEW_START, (last + 1, "damaged", tip.hash))
            _entries(source, target)
            _sinks(source, target)
            for query, insert in _OTHERS:
                for row in _rows(source, query):
                    with suppress(sqlite3.IntegrityError, sqlite3.ProgrammingError):
                        target.execute(insert, row)
        checkpoint(target)


def _rows(source: sqlite3.Connection, query: str, *values: object) -> Iterator[_Row]:
    """Yield the rows of a query up to the first damaged one."""
    with suppress(sqlite3.Error):
        yield from source.execute(query, values)


def _layouts(source: sqlite3.Connection, target: sqlite3.Connection) -> set[str]:
    """Copy the layouts; return their digests. A layout's seal shows damage when the layout is
    used."""
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
    """Copy receipts and starts of chains up to the first receipt that does not follow its
    predecessor; return the last one copied."""
    starts = {1: Start(1, "new")}
    with suppress(sqlite3.Error):
        starts |= Ledger(source.execute).starts
    tip = Tip(0, NOTHING)
    with suppress(sqlite3.Error):
        for receipt in Ledger(source.execute).receipts():
            start = starts.get(receipt.sequence)
            if not receipt.follows(tip, start):
                break
            if start is not None:
                target.execute(NEW_START, (start.first, start.reason, start.after))
            target.execute(NEW_RECEIPT, receipt.as_row())
            tip = Tip(receipt.sequence, receipt.hash)
    return tip


def _entries(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy entries up to the first that does not follow its predecessor. The next new entry notes
    the loss."""
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
    """Copy the intact batches; return the highest number."""
    highest = 0
    for sequence in _sequences(source):
        highest = max(highest, sequence)
        for row in _rows(source, f"SELECT {BATCH} FROM batches WHERE sequence = ?", sequence):  # noqa: S608
            if row[2] in known and is_intact(row):
                target.execute(NEW_BATCH, row)
    return highest


def _sinks(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy the accounts of sinks and their intact gaps. Opening the file balances the accounts."""
    with suppress(sqlite3.Error):
        for sink, account in read_accounts(source.execute)[0].items():
            target.execute(NEW_ACCOUNT, account_row(sink, account, is_recovered=True))
    with suppress(sqlite3.Error):
        for sink, gaps in read_gaps(source.execute)[0].items():
            target.executemany(NEW_GAP, [(sink, *gap, checksum(sink, *gap)) for gap in gaps])


def _sequences(source: sqlite3.Connection) -> list[int]:
    """Return the numbers of batches from both ends up to the damage, and candidates between."""
    query = "SELECT sequence FROM batches ORDER BY sequence"
    upwards = [row[0] for row in _rows(source, query)]
    downwards = [row[0] for row in _rows(source, f"{query} DESC")]
    found = {n for n in (*upwards, *downwards) if isinstance(n, int) and 0 < n < _MOST_SEQUENCE}
    if upwards == downwards[::-1]:
        return sorted(found)  # nothing is damaged
    first = upwards[-1] if upwards else 0
    last = downwards[-1] if downwards else first + _MOST_PROBES
    found.update(range(first, min(last, first + _MOST_PROBES)))
    return sorted(found)


def _highest(source: sqlite3.Connection, *tables: str) -> int:
    queries = [f"SELECT max(sequence) FROM {name}" for name in tables]  # noqa: S608 - constants
    found = (row[0] for query in queries for row in _rows(source, query))
    return max((n for n in found if isinstance(n, int) and n < _MOST_SEQUENCE), default=0)


# -- quarantined files -----------------------------------------------------------------------------

_DAMAGED = ".damaged-"
"""The text between a quarantined file's original name and the time of its quarantine."""
_STAMP = "%Y%m%dT%H%M%SZ"
_LENGTH = len("20261124T102030Z")


def quarantine(path: Path, only_log: bool = False) -> list[Path]:
    """Rename a file and its log; return their new names. The log is renamed last, so that a log
    whose file is gone always has the new file beside it."""
    stamp = datetime.now(UTC).strftime(_STAMP)
    number, base = 1, f"{path.name}{_DAMAGED}{stamp}"
    while any(path.with_name(base + end).exists() for end in ("", "-wal")):
        number += 1
        base = f"{path.name}{_DAMAGED}{stamp}-{number}"
    renamed = []
    for end in ("-wal",) if only_log else ("", "-wal"):
        old, new = path.with_name(path.name + end), path.with_name(base + end)
        if old.exists() and (end == "" or old.stat().st_size):
            old.chmod(0o600)
            old.rename(new)
            renamed.append(new)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    return renamed


def quarantined(spool: Path) -> Iterator[tuple[Path, datetime]]:
    """Yield the quarantined files of a spool's file, and the time at which each was renamed.
    Nothing in a file was received after that time."""
    for path in sorted(spool.parent.glob(f"{spool.name}{_DAMAGED}*")):
        stamp = path.name.removeprefix(f"{spool.name}{_DAMAGED}")[:_LENGTH]
        with suppress(FileNotFoundError):
            yield path, _moment(stamp) or datetime.fromtimestamp(path.stat().st_mtime, UTC)


def delete_quarantined(
    spool: Path, *, since: datetime | None = None, until: datetime | None = None
) -> int:
    """Delete files that were quarantined at or after ``since`` and before ``until``; return their
    number. Raises ``ConfigError`` E203, after deleting the others, when some cannot be deleted."""
    number, is_complete = 0, True
    for path, moment in quarantined(spool):
        if (since is None or moment >= since) and (until is None or moment < until):
            try:
                path.unlink(missing_ok=True)
                number += 1
            except OSError:
                is_complete = False
    if not is_complete:
        raise ConfigError("E203", "a quarantined file cannot be deleted; check its permissions")
    return number


def _moment(stamp: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    return None
