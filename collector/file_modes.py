"""Files of Collector are their owner's alone: created so, tightened where they are not, and never
opened through a symbolic link.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

_COMPANIONS = ("-wal", "-shm", "-journal")
_OURS = re.compile(
    r"(spool|store|vault|keys|recorder)\.db.*|(ledger|master|subjects)\.key.*|collector\.lock|verdicts\.json.*|control\.sock"
    r"|sinks|objects|vault|.*\.ndjson.*"
).fullmatch
_OTHERS = 0o077


class Tightened(NamedTuple):
    """How many files and directories were made their owner's alone, and how many could not be."""

    tightened: int = 0
    loose: int = 0

    def __add__(self, other: Tightened) -> Tightened:  # type: ignore[override]
        return Tightened(self.tightened + other.tightened, self.loose + other.loose)


def make_private(path: Path) -> None:
    """Create a file (0600) where there is none; make it, and what SQLite keeps beside it, readable
    by its owner only.

    An existing file is not opened: closing it would end the locks that this process has on it.
    Raises ``OSError``, with ``ELOOP`` for a symbolic link.
    """
    for name in (path, *(path.with_name(f"{path.name}{end}") for end in _COMPANIONS)):
        _tighten(name)
    with suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(path, flags, 0o600))


def write_private(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file (0600) and sync it; where that fails, nothing is left of it. Raises
    ``OSError``, ``FileExistsError`` where there is something, and what ``pieces`` raise."""
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
    """Take the permissions of ``mode`` from files that exist. Symbolic links are left alone."""
    found = Tightened()
    for path in paths:
        with suppress(OSError):
            found += _tighten(path, mode)
    return found


def tighten_directory(directory: Path, own: Iterable[Path] = ()) -> Tightened:
    """Make a directory its owner's alone if all that is in it is of Collector, or one of ``own``;
    others may need the way into any other."""
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
    """Raise ``OSError`` with ``ELOOP`` for a symbolic link, ``EINVAL`` for no file."""
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
