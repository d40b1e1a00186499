"""The index of SQLite's write-ahead log: a file that every process maps into its memory.

A place of it for which the disk has no room would end the process (SIGBUS). SQLite makes sure of
one byte in 4096, which is not enough where blocks are smaller, as on most disks below 512 MB; so
there is room for all of it from the start. The format is SQLite's,
https://www.sqlite.org/walformat.html#the_wal_index_file_format.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import suppress
from pathlib import Path

from collector import directory

__all__ = ["Index", "need_room"]

_BYTES = 32768
"""The index of a log of up to 4062 pages."""
_ROOM = 4 * _BYTES
_HEAD = struct.Struct("=14xHI28x")
"""In the machine's order: size of pages, and frames that count. It is there twice."""


class Index:
    """The index of the log of a database that is open, and has a log.

    ``close`` it only when all connections of this process to the database are closed: the system
    lets go of all their locks with it. Raises ``OSError`` when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._handle = -1
        with suppress(FileNotFoundError):
            self._handle = os.open(f"{path}-shm", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if self._handle >= 0 and hasattr(os, "posix_fallocate"):
            self._reserve()

    def counted(self) -> tuple[int, int] | None:
        """The size of a page, and how many frames of the log count; ``None`` if it is being written
        or not there."""
        head = os.pread(self._handle, 2 * _HEAD.size, 0) if self._handle >= 0 else b""
        if len(head) < 2 * _HEAD.size or head[: _HEAD.size] != head[_HEAD.size :]:
            return None
        size, frames = _HEAD.unpack_from(head)
        return size, frames

    def close(self) -> None:
        """Let go of it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _reserve(self) -> None:
        try:
            os.posix_fallocate(self._handle, 0, _BYTES)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self.close()
                raise


def need_room(path: Path) -> None:
    """See to it that a database can be opened there: the index needs room before ``Index`` can
    reserve any. Raises ``OSError`` when the disk is full."""
    directory.need_room(path.parent, _ROOM)
