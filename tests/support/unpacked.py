"""Read every byte of files, for tests that look for forbidden data. Batches that a spool has
compressed are added uncompressed, because a text cannot be seen in them otherwise.

SQLite splits such a batch among pages that need not be adjacent; each page names the next one
before its part. This module follows them, even if no row refers to them any more.
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
    """Return the bytes of files, and of all files in directories, with the decompressed batches of
    SQLite files. Raises ``FileNotFoundError`` if a file vanishes meanwhile."""
    found = list[bytes]()
    for place in places:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                found += [path.read_bytes(), *unpacked(path)]
    return b"\n".join(found)


def unpacked(path: Path) -> Iterator[bytes]:
    """Yield the decompressed batches in an SQLite file or its log."""
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
    """Yield the pages of each commit in a log, including partly overwritten commits."""
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
    """Yield decompressed data from each place in a page. A part ends with the number of a page. Of
    the candidates, take the number with which most data decompresses."""
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
    """Return what decompresses from a part and the pages after it."""
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
