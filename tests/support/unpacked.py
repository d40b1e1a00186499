"""Every byte of files, for tests that look for what must not be there. What a spool has compressed
is added as it was before: a text cannot be seen in it.

SQLite divides such a batch among pages that need not follow each other, each with the number of the
next one before its part. These are followed, also where no row names them any more.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

_FILE, _LOGS = b"SQLite format 3\0", (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_PACKED = b"x\x01"
_NUMBER = 4
_FRAME, _LOG = 24, 32
_Pages = Mapping[int, bytes]


def every_byte(*places: Path) -> bytes:
    """Return the bytes of files, and of all files in directories, and what is compressed in those
    of SQLite. Raises ``FileNotFoundError`` if one of them goes meanwhile."""
    found = list[bytes]()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                found += [path.read_bytes(), *unpacked(path)]
    return b"\n".join(found)


def unpacked(path: Path) -> Iterator[bytes]:
    """Yield what is compressed in a file of SQLite, or in the log of one."""
    if path.name.endswith("-wal"):
        pages = dict(_pages_of(path.with_name(path.name.removesuffix("-wal"))))
        for commit in _commits(path):
            pages |= commit
            for page in commit.values():
                yield from _in_page(page, pages)
    else:
        pages = dict(_pages_of(path))
        for page in pages.values():
            yield from _in_page(page, pages)


def _pages_of(path: Path) -> Iterator[tuple[int, bytes]]:
    data = path.read_bytes() if path.is_file() else b""
    if data.startswith(_FILE):
        size = int.from_bytes(data[16:18])
        size = 1 << 16 if size == 1 else size
        for at in range(0, len(data), size):
            yield at // size + 1, data[at : at + size]


def _commits(path: Path) -> Iterator[dict[int, bytes]]:
    """Yield the pages of each commit in a log, also of those that are partly overwritten."""
    data, pages = path.read_bytes(), dict[int, bytes]()
    if not data.startswith(_LOGS):
        return
    size = int.from_bytes(data[8:12])
    for at in range(_LOG, len(data), _FRAME + size):
        pages[int.from_bytes(data[at : at + 4])] = data[at + _FRAME : at + _FRAME + size]
        if any(data[at + 4 : at + 8]):
            yield pages
            pages = {}
    yield pages


def _in_page(page: bytes, pages: _Pages) -> Iterator[bytes]:
    """Yield what is compressed from a place in a page on. Its part ends with the number of a page:
    of all that may be this number, the one is taken with which most can be decompressed."""
    at = page.find(_PACKED)
    while at >= 0:
        ends = range(at + 2, len(page) - _NUMBER + 1)
        numbers = ((end, int.from_bytes(page[end : end + _NUMBER])) for end in ends)
        tries = [
            _inflated(page[at:end], number, pages) for end, number in numbers if number in pages
        ]
        yield max([_inflated(page[at:], 0, pages), *tries], key=len)
        at = page.find(_PACKED, at + 1)


def _inflated(part: bytes, number: int, pages: _Pages) -> bytes:
    """Return what can be decompressed of a part and of the pages after it."""
    inflater, found, seen = zlib.decompressobj(), list[bytes](), set[int]()
    try:
        found.append(inflater.decompress(part))
        while number in pages and number not in seen and not inflater.eof:
            seen.add(number)
            page = pages[number]
            found.append(inflater.decompress(page[_NUMBER:]))
            number = int.from_bytes(page[:_NUMBER])
    except zlib.error:
        pass
    return b"".join(found)
