"""The lock of a data directory, which one process holds at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from collector.errors import ConfigError, InUse, NotNow
from collector.files import NO_ROOM, lock_file, make_directory, tighten_directory

FILE_NAME = "collector.lock"
_IN_USE = "the data directory is in use by another collector; stop it, or name another directory"


class Lock:
    """Lock a data directory until ``release``. If it does not exist, create it (0700), but not its
    parent.

    The system releases the lock when the process ends, however it ends. Raises ``ConfigError`` E203
    when the directory cannot be used, ``NotNow`` when the cause may be temporary, and ``InUse``
    when another process holds the lock.
    """

    def __init__(self, directory: Path) -> None:
        self._handle = _open(directory)
        if not lock_file(self._handle):
            os.close(self._handle)
            raise InUse("E203", _IN_USE)

    def release(self) -> None:
        """Unlock the directory."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def check_lock(directory: Path) -> None:
    """Raise ``InUse`` if a process holds the lock of a directory; create nothing."""
    with suppress(OSError):
        handle = os.open(directory / FILE_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not lock_file(handle):
                raise InUse("E203", _IN_USE)
        finally:
            os.close(handle)


def _open(directory: Path) -> int:
    make_directory(directory)
    tighten_directory(directory)
    is_full = False
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(directory / FILE_NAME, flags, 0o600)
    except OSError as error:
        is_full = error.errno in NO_ROOM
    if is_full:
        raise NotNow("E203", "the disk of the data directory is full; make room")
    raise ConfigError("E203", "the data directory cannot be written; check its permissions")
