"""Files and directories of Collector: private to their owner, checked before use, and synced. They
are never opened through a symbolic link."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

from collector.errors import ConfigError, NotNow

_COMPANIONS = ("-wal", "-shm", "-journal")
_OURS = re.compile(
    r"(spool|store|vault|keys|recorder)\.db.*|(ledger|master|subjects)\.key.*|collector\.lock|verdicts\.json.*|control\.sock"
    r"|sinks|objects|vault|.*\.ndjson.*"
).fullmatch
_OTHERS = 0o077
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""The error numbers of a full disk and of an exhausted quota."""
_LONGEST_NAME = 255
_LONGEST_SOCKET = 100
MISSING = (
    "the directory above it does not exist: mount the volume that it is on, or make it, as with"
    " `mkdir -p`"
)
"""The message if the directory above a missing directory is missing too."""

# -- directories ----------------------------------------------------------------------------------


def check_directory(path: Path, *, within: Path | None = None, must_exist: bool = False) -> None:
    """Check that a directory is writable, or that ``make_directory`` can make it. Makes nothing.

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
        is_usable = is_usable and os.statvfs(there).f_blocks > 0  # 0 in /proc
    except OSError:
        is_named = is_missing = is_usable = False
    if is_named and is_missing:
        raise NotNow("E203", MISSING)
    if not (is_named and is_usable):
        message = "the directory cannot be made or written; check that it exists and may be written"
        if is_named and there.is_file():
            message = "a file has this name, or a part of it; name a directory"
        raise ConfigError("E203", message)


def make_directory(path: Path, *, within: Path | None = None) -> None:
    """Make a directory (0700) unless it exists, and the missing ones above it up to and including
    ``within``. The directory above these must exist: below a mount point whose volume is missing, a
    new directory would fill the disk of the system.

    Raises ``ConfigError`` E203, and ``NotNow`` where the directory above is missing or its disk is
    full.
    """
    error_number = 0
    try:
        make_directories(path, _topmost(path, within))
    except OSError as error:
        error_number = error.errno or -1
        if isinstance(error, FileExistsError) and _leads_nowhere(path):
            error_number = errno.ENOENT
    if error_number == errno.ENOENT:
        raise NotNow("E203", MISSING)
    if error_number in NO_ROOM:
        raise NotNow("E203", "the directory cannot be made: its disk is full; make room")
    if error_number:
        raise ConfigError("E203", "the directory cannot be made; check its permissions")


def make_directories(path: Path, top: Path) -> list[Path]:
    """Make a directory (0700) and the missing ones above it, from ``top`` on; return the new ones.
    Raises ``OSError``."""
    made, below = list[Path](), path.parts[len(top.parts) :]
    for depth in range(len(below) + 1):
        each = top.joinpath(*below[:depth])
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)
            made.append(each)
    return made


def _topmost(path: Path, within: Path | None) -> Path:
    """Return the first directory that may be made on the way to a path."""
    return within if within is not None and path.is_relative_to(within) else path


def _leads_nowhere(path: Path) -> bool:
    """Return whether a path is a link to a missing target."""
    return path.is_symlink() and not path.exists()


def check_file(path: Path, *ends: str, within: Path | None = None) -> None:
    """Check that a file can be made, or read and written, and the same with each of ``ends`` added
    to its name. Makes nothing. Raises ``ConfigError`` E203 if not, and as ``check_directory``."""
    check_directory(path.parent, within=within)
    for end in ("", *ends):
        each = path.with_name(path.name + end)
        if not _is_usable(each):
            message = (
                "the file cannot be made or written; check its name, its permissions, and what"
            )
            message += " is there"
            if _is_link(each):
                message = "a file there is a symbolic link; name the file that it leads to"
            raise ConfigError("E203", message)


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
    """Return whether anything has that name, even a link. Raises ``OSError`` if the name cannot be
    used."""
    with suppress(FileNotFoundError):
        path.lstat()
        return True
    return False


def need_room(directory: Path, size: int) -> None:
    """Raise ``OSError`` unless the disk of a directory has room for ``size`` bytes."""
    disk = os.statvfs(directory)
    if disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(directory: Path) -> None:
    """Sync a directory, so that files that were made, renamed or removed in it stay so after a
    crash. Raises ``OSError``."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(handle: int) -> bool:
    """Lock an open file, unless another process has locked it; return whether it is locked now."""
    import fcntl  # noqa: PLC0415 - not everywhere

    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock on a file. Raises ``OSError``."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return not lock_file(handle)
    finally:
        os.close(handle)


# -- errors and sockets ---------------------------------------------------------------------------


@contextmanager
def failing_as(
    failure: Exception | Callable[[BaseException], Exception],
    *kinds: type[BaseException],
    but: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Raise ``failure``, or what it returns for the error, in place of errors of these kinds (by
    default ``OSError``), except those in ``but``. It has no context, because the text of a disk or
    database error may hold paths and values."""
    try:
        yield
        return
    except BaseException as error:
        if isinstance(error, but) or not isinstance(error, kinds or OSError):
            raise
        if not isinstance(failure, Exception):
            failure = failure(error)
    try:
        raise failure
    finally:
        failure.__context__ = None


@contextmanager
def short_path(socket: Path) -> Iterator[str]:
    """Yield a path of a socket file that is short enough for the system (about 100 bytes). In place
    of a longer path, it leads through an open handle of the directory (Linux)."""
    path = str(socket)
    if len(os.fsencode(path)) <= _LONGEST_SOCKET or sys.platform != "linux":
        yield path
        return
    handle = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{socket.name}"
    finally:
        os.close(handle)


# -- what is there --------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An entry of any type below a directory. Without a ``status`` it cannot be read."""

    path: Path
    status: os.stat_result | None

    @property
    def kind(self) -> str:
        """``file``, ``directory``, ``link``, ``socket``, ``pipe`` or ``device``; ``unknown`` if it
        cannot be read."""
        return "unknown" if self.status is None else _KINDS[stat.S_IFMT(self.status.st_mode)]

    @property
    def readable(self) -> Path:
        """The path. Raises ``OSError`` if the entry cannot be read."""
        if self.status is None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return self.path


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def walk(top: Path, *, follow: bool = False) -> Iterator[Entry]:
    """Yield the entries below a directory, sorted by name: first its own, then those of the
    directories in it. An unreadable entry has no status; entries that vanish meanwhile are left
    out. Links are not followed. With ``follow``, a link to a file is a file, and links to
    directories are followed, once per directory. If the directory is the top of a file system, its
    ``lost+found`` is left out.
    """
    seen, folders = set[tuple[int, int]](), [top]
    while folders:
        folder, inner = folders.pop(), list[Path]()
        try:
            place = folder.stat()
            if follow and (place.st_dev, place.st_ino) in seen:
                continue
            seen.add((place.st_dev, place.st_ino))
            entries = sorted(os.scandir(folder), key=lambda each: each.name)
        except FileNotFoundError:
            continue
        except OSError:
            yield Entry(folder, None)
            continue
        for each in entries:
            if folder == top and each.name == "lost+found" and _is_of_system(each):
                continue
            entry = _entry(each, follow)
            if entry.kind == "directory":
                inner.append(entry.path)
            yield entry
        folders += reversed(inner)


def _is_of_system(each: os.DirEntry[str]) -> bool:
    """Return whether an entry is an empty directory, or an unreadable one that belongs to root."""
    is_plain = each.is_dir(follow_symlinks=False) and not has_attributes(Path(each.path))
    try:
        return is_plain and not [*os.scandir(each.path)]
    except OSError:
        return each.stat(follow_symlinks=False).st_uid == 0


def _entry(each: os.DirEntry[str], follow: bool) -> Entry:
    status = None
    with suppress(OSError):
        status = each.stat(follow_symlinks=False)
        if follow and stat.S_ISLNK(status.st_mode):
            status = each.stat()  # a dangling link stays a link
    return Entry(Path(each.path), status)


def foreign_entries(top: Path, owned: Mapping[str, Callable[[str], object]]) -> list[Path]:
    """Return the entries below a directory that are not on their owner's list, and those with
    attributes that a user has set. ``owned`` has a test by kind of entry, which tells whether a
    path within the directory is on the list. An unreadable entry is not."""
    found = [top] if has_attributes(top) else []
    for entry in walk(top):
        is_owned, name = owned.get(entry.kind), entry.path.relative_to(top).as_posix()
        is_known = is_owned is not None and bool(is_owned(name)) and name != "."
        if is_known and not has_attributes(entry.path):
            continue
        with suppress(FileNotFoundError):  # it vanished meanwhile
            entry.path.lstat()
            found.append(entry.path)
    return found


_OF_SYSTEM = ("security.", "system.")
"""Prefixes of the attributes for labels, capabilities and access lists."""


def has_attributes(path: Path) -> bool:
    """Return whether somebody has set an extended attribute, as far as the system can tell."""
    if sys.platform == "linux":
        with suppress(OSError):
            names = os.listxattr(path, follow_symlinks=False)
            return not all(name.startswith(_OF_SYSTEM) for name in names)
    return False


# -- private files --------------------------------------------------------------------------------


class Tightened(NamedTuple):
    """How many files and directories were made private to their owner, and how many could not
    be."""

    tightened: int = 0
    loose: int = 0

    def __add__(self, other: Tightened) -> Tightened:  # type: ignore[override]
        return Tightened(self.tightened + other.tightened, self.loose + other.loose)


def make_private(path: Path) -> None:
    """Create a file (0600) if it is missing; make it and SQLite's files beside it readable by its
    owner only.

    An existing file is not opened, because closing it would release this process's locks on it.
    Raises ``OSError``, with ``ELOOP`` for a symbolic link.
    """
    for name in (path, *(path.with_name(f"{path.name}{end}") for end in _COMPANIONS)):
        _tighten(name)
    with suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))


def write_private(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file (0600) and sync it; if that fails, remove it. Raises ``OSError``,
    ``FileExistsError`` if the path exists, and what ``pieces`` raise."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def tighten(paths: Iterable[Path], mode: int = _OTHERS) -> Tightened:
    """Remove the permissions in ``mode`` from files that exist. Symbolic links are left alone."""
    found = Tightened()
    for path in paths:
        with suppress(OSError):
            found += _tighten(path, mode)
    return found


def tighten_directory(directory: Path, own: Iterable[Path] = ()) -> Tightened:
    """Make a directory private to its owner if everything in it is Collector's or in ``own``. Other
    programs may need access to any other directory."""
    directory = Path(realpath(directory))
    try:
        entries = [Path(entry) for entry in os.scandir(directory)]
        known = {Path(realpath(path)) for path in own}
        is_ours = all(_OURS(each.name) or each in known or each.is_socket() for each in entries)
        return _tighten(directory, _OTHERS if is_ours else 0, stat.S_ISDIR)
    except OSError:
        return Tightened()


def _tighten(
    path: Path, mode: int = _OTHERS, is_expected: Callable[[int], bool] = stat.S_ISREG
) -> Tightened:
    """Raise ``OSError`` with ``ELOOP`` for a symbolic link, ``EINVAL`` for anything but a file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Tightened()
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not is_expected(status.st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if not status.st_mode & (mode or _OTHERS):
        return Tightened()
    with suppress(OSError):
        if mode:
            path.chmod(stat.S_IMODE(status.st_mode) & ~mode)
            return Tightened(tightened=1)
    return Tightened(loose=1)
