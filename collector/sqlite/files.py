"""Files of a database: whether they can be made, room on the disk, directories that are synced,
durable and read-only connections."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from collector.errors import ConfigError, NotNow

_BUSY_SECONDS = 5.0
_LONGEST_NAME = 255
_LONGEST_PATH = 500
"""SQLite takes paths of at most 512 bytes, with the ends of its logs."""

MISSING = (
    "the directory above it does not exist: mount the volume that it is on, or make it, as with"
    " `mkdir -p`"
)
"""What is said where a directory would have to be made together with the one above it."""
_DURABLE = (
    "page_size = 8192",
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
)


def check_directory(path: Path, *, within: Path | None = None, must_exist: bool = False) -> None:
    """Check that a directory is writable, or that ``make_directory`` can make it; make nothing.

    Raises ``ConfigError`` E203 if not, and ``NotNow`` where the directory above is missing.
    """
    above = path if must_exist else _topmost(path, within).parent
    try:
        there, names = path, list[str]()
        while not (_exists(there) or there == there.parent):
            names.append(there.name)
            there = there.parent
        is_named = all(len(os.fsencode(name)) <= _LONGEST_NAME for name in names)
        is_missing = len(there.parts) < len(above.parts) or _leads_nowhere(there)
        is_usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        is_usable = is_usable and os.statvfs(there).f_blocks > 0  # none: as in /proc
    except OSError:
        is_named = is_missing = is_usable = False
    if is_named and is_missing:
        raise NotNow("E203", MISSING)
    if not (is_named and is_usable):
        message = "the directory cannot be made or written; check that it exists and may be written"
        raise ConfigError("E203", message)


def make_directory(path: Path, *, within: Path | None = None) -> None:
    """Make a directory (0700) unless it exists, and those between it and ``within``, that one
    included. The directory above them must exist: below a mount point whose volume is missing, a
    new directory would fill the disk of the system.

    Raises ``ConfigError`` E203, and ``NotNow`` where the directory above is missing or its disk is
    full.
    """
    top, error_number = _topmost(path, within), 0
    below = path.parts[len(top.parts) :]
    try:
        for depth in range(len(below) + 1):
            top.joinpath(*below[:depth]).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        error_number = error.errno or -1
        if isinstance(error, FileExistsError) and _leads_nowhere(path):
            error_number = errno.ENOENT
    if error_number == errno.ENOENT:
        raise NotNow("E203", MISSING)
    if error_number in (errno.ENOSPC, errno.EDQUOT):
        raise NotNow("E203", "the directory cannot be made: its disk is full; make room")
    if error_number:
        raise ConfigError("E203", "the directory cannot be made; check its permissions")


def _topmost(path: Path, within: Path | None) -> Path:
    """Return the first directory that may be made on the way to a path."""
    return within if within is not None and path.is_relative_to(within) else path


def _leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to what is not there."""
    return path.is_symlink() and not path.exists()


def check_file(path: Path, *ends: str, within: Path | None = None) -> None:
    """Check that a file can be made, or read and written; also those whose names have one of the
    ends besides. Make nothing. Raises ``ConfigError`` E203 if not, and as ``check_directory``."""
    check_directory(path.parent, within=within)
    for end in ("", *ends):
        each = path.with_name(path.name + end)
        if not _is_usable(each):
            message = "a file cannot be made or written there: check its name, what is there, and"
            message += " its permissions"
            if _is_link(each):
                message = "a file there is a symbolic link; name the file that it leads to"
            raise ConfigError("E203", message)


def check_database(path: Path, *ends: str, within: Path | None = None) -> None:
    """Check a database's file and its logs likewise."""
    check_file(path, "-wal", "-shm", "-journal", *ends, within=within)
    if len(os.fsencode(path.absolute())) > _LONGEST_PATH:
        raise ConfigError("E203", "the path of the database is too long; choose a shorter one")


def _is_usable(path: Path) -> bool:
    with suppress(OSError):
        if not _exists(path):
            return len(os.fsencode(path.name)) <= _LONGEST_NAME
        return stat.S_ISREG(path.lstat().st_mode) and os.access(path, os.R_OK | os.W_OK)
    return False


def _is_link(path: Path) -> bool:
    with suppress(OSError):
        return path.is_symlink()
    return False


def _exists(path: Path) -> bool:
    """Return whether there is anything of that name, also a link. Raises ``OSError`` where the name
    cannot be used."""
    with suppress(FileNotFoundError):
        path.lstat()
        return True
    return False


def need_room(directory: Path, size: int) -> None:
    """Raise ``OSError`` unless the disk of a directory has room for so many bytes."""
    disk = os.statvfs(directory)
    if disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(directory: Path) -> None:
    """Sync a directory: a file that was made, renamed or removed in it is so after a crash as well.
    Raises ``OSError``."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def connect(path: Path, seconds: float = _BUSY_SECONDS) -> sqlite3.Connection | None:
    """Open a read-only connection in a transaction, which disturbs no process that writes.

    Returns ``None`` if the file cannot be opened and read, or is no database; and if another
    process has it for itself for so many seconds. Tables of its own, and what sorting needs, are in
    memory only.
    """
    place = f"{path.absolute().as_uri()}?mode=ro"
    with suppress(sqlite3.Error):
        try:
            return _read(place, seconds)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code != sqlite3.SQLITE_BUSY and not _has_log(path):
                return _read(f"{place}&immutable=1", seconds)  # where no process may write
    return None


def _read(place: str, seconds: float) -> sqlite3.Connection:
    with ExitStack() as stack:
        db = sqlite3.connect(place, uri=True, timeout=seconds, isolation_level=None)
        stack.callback(db.close)
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
        stack.pop_all()
        return db


def _has_log(path: Path) -> bool:
    """Return whether a file has a log, which would be left out: it may hold all of its rows."""
    with suppress(OSError):
        return any(
            log.exists() and log.stat().st_size > 0
            for log in (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal"))
        )
    return True


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run a block as a transaction that writes; roll it back if the block raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")


def make_durable(db: sqlite3.Connection, *more: str) -> None:
    """Make the commits of a connection durable, let SQLite overwrite deleted data, and set ``more``
    pragmas. Raises ``sqlite3.Error``."""
    for setting in (*_DURABLE, *more):
        db.execute(f"PRAGMA {setting}")
