"""Up to where a file is whole, and which batches are in it: a small file with room for two marks.

They are written in turn, so that one is always whole, whatever stops the other half way.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar

__all__ = ["Mark", "Marks"]

_HEAD = struct.Struct(">QQQI")
_SUM_BYTES = 32
_ROOM = 8192


@dataclass(frozen=True, slots=True)
class Mark:
    """The file with this inode is whole up to this length, and these batches are in it, or in one
    before it: hashes of their ids."""

    MOST_IDS: ClassVar[int] = 256
    ID_BYTES: ClassVar[int] = 16

    inode: int = 0
    length: int = 0
    ids: tuple[bytes, ...] = ()


class Marks:
    """The marks in an open file. Raises ``OSError``."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._turn = 1

    def get(self, inode: int, size: int) -> Mark:
        """The newest mark, unless it says of a file that it is longer than it is: then what it
        stands for did not come about, and the one before it counts."""
        found = sorted(filter(None, map(self._read, (0, 1))), key=itemgetter(0))
        self._turn = found[-1][0] + 1 if found else 1
        while found:
            turn, mark = found.pop()
            if mark.inode != inode or mark.length <= size:
                self._turn += self._turn % 2 == turn % 2  # in the place of the other
                return mark
        return Mark(inode, size)

    def set(self, mark: Mark) -> None:
        """Put a mark in the place of the older one; it is on disk when this returns."""
        head = _HEAD.pack(self._turn, mark.inode, mark.length, len(mark.ids))
        text = head + b"".join(mark.ids)
        text += hashlib.sha256(text).digest()
        if os.pwrite(self._handle, text, _ROOM * (self._turn % 2)) < len(text):
            raise OSError
        os.fsync(self._handle)
        self._turn += 1

    def _read(self, place: int) -> tuple[int, Mark] | None:
        text = os.pread(self._handle, _ROOM, _ROOM * place)
        if len(text) < _HEAD.size:
            return None
        turn, inode, length, number = _HEAD.unpack_from(text)
        end = _HEAD.size + number * Mark.ID_BYTES
        if number > Mark.MOST_IDS or hashlib.sha256(text[:end]).digest() != text[end:][:_SUM_BYTES]:
            return None
        ids = (text[at : at + Mark.ID_BYTES] for at in range(_HEAD.size, end, Mark.ID_BYTES))
        return turn, Mark(inode, length, tuple(ids))
