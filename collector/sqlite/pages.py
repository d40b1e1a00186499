"""Read the pages of a SQLite file on disk, to find bytes that belong to no row and no list.

SQLite skips what it does not expect: values after the last column of a row, bytes after a row's
last value, the contents of a free page, and bytes after the last page. The format is SQLite's,
https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from collector.sqlite import wal
from collector.sqlite.connection import quoted

_HEAD = struct.Struct(">16sHBBBBBBIIIIIIIIIIII20s8x")
_SHARES, _SETTINGS = (0, 64, 32, 32), (4, 0, 0, 1)
"""The header's expected values. ``_SHARES``: no reserved bytes, and the shares of a page that a row
may use. ``_SETTINGS``: the schema's format, no cache size, no automatic vacuum, UTF-8."""
_MOST_PAGES = 1 << 28
"""A page number is lower than this: so many pages have two terabytes."""
_TABLE_LEAF, _TABLE, _INDEX_LEAF, _INDEX = 13, 5, 10, 2
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)
"""The bytes of a value by its type. Higher types are texts and bytes."""
_NOT_LAST = bytes(range(128, 256))
_MOST_KNOWN = 10_000


class Pages:
    """The pages of a database at the moment of a connection's transaction, which must be open."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db, self._stack = db, ExitStack()
        log = path.with_name(f"{path.name}-wal")
        self._file = wal.descriptor(path, self._stack)
        self._places: Mapping[int, int] = wal.pages(log)
        self._log = wal.descriptor(log, self._stack) if self._places else -1
        size = int.from_bytes(wal.head(path)[16:18])
        self._size = size if size > 1 else 1 << 16
        self._bytes = os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file descriptors that this object opened."""
        self._stack.close()

    def foreign(self, version: int, application: int) -> Iterator[str]:
        """Yield, in words, each part that belongs to none of the file's rows and lists. ``version``
        and ``application`` come from its definition. Raises ``sqlite3.Error``, ``OSError``, and
        ``ValueError``, ``LookupError`` or ``struct.error`` for a page that is not valid."""
        head = _HEAD.unpack_from(self.page(1))
        pages, first_free = head[9], head[10]
        before = int.from_bytes(os.pread(self._file, 4, 28))  # pages without the log
        expected = (*_SHARES, *_SETTINGS, version, 0, application, bytes(20))
        if (*head[4:8], *head[13:]) != expected:
            yield "a header"
        if self._bytes > self._size * max(pages, before):
            yield "bytes behind the last page"
        yield from self._free(first_free)
        if self._db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            yield "a page that is not used"
        for name, root, table in self._db.execute(_ROOTS).fetchall():
            kind = "table_xinfo" if name == table else "index_xinfo"
            columns = self._db.execute(f"PRAGMA {kind}({quoted(name)})").fetchall()
            if self._has_more(root, len(columns)):
                yield "a row"

    def page(self, number: int) -> bytes:
        """Return a page. Raises ``ValueError`` if it is missing."""
        place = self._places.get(number)
        if place is not None:
            found = os.pread(self._log, self._size, place)
        else:
            found = os.pread(self._file, self._size, (number - 1) * self._size)
        if len(found) < self._size:
            raise ValueError("a page is not there")
        return found

    def _free(self, trunk: int) -> Iterator[str]:
        """Check the free pages. Each must be a list of free pages, or empty."""
        empty = bytes(self._size)
        while trunk:
            trunk, number, *listed = struct.unpack(f">{self._size // 4}I", self.page(trunk))
            if max(listed) >= _MOST_PAGES:
                yield "a list of free pages"
            if any(self.page(leaf) != empty for leaf in listed[:number]):
                yield "a free page"

    def _has_more(self, root: int, columns: int) -> bool:
        """Return whether a row of a tree has more values than there are columns, or more bytes than
        its values take."""
        known, left = dict[bytes, int](), [root]
        while left:
            text, number = self.page(left[-1]), left.pop()
            start = 100 if number == 1 else 0
            kind, cells = text[start], int.from_bytes(text[start + 3 : start + 5])
            is_leaf = kind in (_TABLE_LEAF, _INDEX_LEAF)
            first = start + (8 if is_leaf else 12)
            if not is_leaf:
                left.append(int.from_bytes(text[start + 8 : start + 12]))
            for at in struct.unpack_from(f">{cells}H", text, first):
                if not is_leaf:
                    left.append(int.from_bytes(text[at : at + 4]))
                if kind != _TABLE:
                    begin = at if is_leaf else at + 4
                    size, begin = _number(text, begin)
                    if kind == _TABLE_LEAF:
                        _, begin = _number(text, begin)
                    header = self._header(text, begin, size, is_index=kind != _TABLE_LEAF)
                    if header not in known:
                        known = known if len(known) < _MOST_KNOWN else {}
                        known[header] = _length(header, columns)
                    if known[header] != size:
                        return True
        return False

    def _header(self, text: bytes, at: int, size: int, *, is_index: bool) -> bytes:
        """Return the part of a row that lists the types of its values."""
        length, _ = _number(text, at)
        least = (self._size - 12) * 32 // 255 - 23
        most = (self._size - 12) * 64 // 255 - 23 if is_index else self._size - 35
        local = least + (size - least) % (self._size - 4)
        local = size if size <= most else (local if local <= most else least)
        part, next_page = text[at : at + local], text[at + local : at + local + 4]
        while len(part) < length:
            more = self.page(int.from_bytes(next_page))
            part, next_page = part + more[4:], more[:4]
        return part[:length]


_ROOTS = "SELECT name, rootpage, tbl_name FROM sqlite_master WHERE rootpage > 0"


def _number(text: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length number at a position, and the position after it."""
    value = 0
    for place in range(at, at + 8):
        byte = text[place]
        value = value << 7 | byte & 127
        if byte < 128:
            return value, place + 1
    return value << 8 | text[at + 8], at + 9


def _length(header: bytes, columns: int) -> int:
    """Compute the bytes of a row from the types in its header; -1 if it has too many values."""
    length, at = _number(header, 0)
    if len(header.translate(None, _NOT_LAST)) - 1 > columns:
        return -1
    while at < len(header):
        kind, at = _number(header, at)
        length += _SIZES[kind] if kind < len(_SIZES) else (kind - 12) // 2
    return length
