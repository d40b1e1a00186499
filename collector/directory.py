"""A directory on disk: that a file in it was made, renamed or removed is there after a crash only
when the directory is synced; and it has room for so much."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["need_room", "sync"]


def need_room(directory: Path, size: int) -> None:
    """See to it that there is room for so many bytes. Raises ``OSError`` when there is not."""
    disk = os.statvfs(directory)
    if disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(directory: Path) -> None:
    """Write to disk which files a directory has. Raises ``OSError``."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
