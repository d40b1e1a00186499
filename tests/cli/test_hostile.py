"""Input made to hurt, through the real command: exact counts, bounded memory, exit 0."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.conftest import IS_WHOLE
from tests.support.command import run_measured
from tests.support.rows import for_each

_MOST_MB = 150
_GOOD = b'{"ip":"203.0.113.7"}\n'
_CHUNK = 1 << 20


def _many(chunk: bytes, total: int) -> Iterator[bytes]:
    piece = chunk * (_CHUNK // len(chunk))
    for _ in range(total // len(piece)):
        yield piece


def _around(middle: Iterable[bytes]) -> Iterator[bytes]:
    """A good line before and after: a bad neighbour must not touch them."""
    yield _GOOD
    yield from middle
    yield b"\n"
    yield _GOOD


def _keys(number: int) -> Iterator[bytes]:
    """An object of so many members, a thousand in each piece."""
    yield b"{"
    for start in range(0, number, 1000):
        yield b"".join(b'"key%d":%d,' % (n, n) for n in range(start, start + 1000))
    yield b'"z":0}'


_Made = Callable[[], Iterable[bytes]]
_LINES: dict[str, tuple[_Made, dict[str, int]]] = {
    "100 million brackets": (lambda: _many(b"[", 100_000_000), {"too_large": 1}),
    "160 MB in one line": (lambda: _many(b"x", 160_000_000), {"too_large": 1}),
    "15 MB of brackets": (lambda: _many(b"[", 15_000_000), {"too_deep": 1}),
    "invalid UTF-8": (lambda: [b'{"ip":"203.0.113.8","x":"\xff\xfe"}'], {"malformed": 1}),
    "a BOM": (lambda: [b'\xef\xbb\xbf{"ip":"203.0.113.8"}'], {"malformed": 1}),
    "NUL bytes": (lambda: [b"\0" * 100_000], {"malformed": 1}),
    "NaN": (lambda: [b'{"ip":"203.0.113.8","x":NaN}'], {"malformed": 1}),
    "a lone surrogate": (
        lambda: [rb'{"ip":"203.0.113.8","x":"\ud800 and more"}'],
        {"malformed": 1},
    ),
    "an array": (
        lambda: [b"[" + b'{"ip":"203.0.113.8"},' * 1000 + b"{}]"],
        {"not_an_object": 1},
    ),
    "16 MB of objects": (
        lambda: [b'{"x":[', *_many(b"{},", 15_000_000), b"{}]}"],
        {"nothing_admitted": 1},
    ),
    "half a million keys": (lambda: _keys(500_000), {"nothing_admitted": 1}),
}


@for_each("name", _LINES)
def test_a_hostile_line_costs_itself_only(name: str) -> None:
    """Its neighbours are admitted, and memory stays bounded."""
    middle, rejected = _LINES[name]
    ended = run_measured("filter", stdin=_around(middle()))
    assert ended.code == 0, ended.err
    assert ended.out.count(b"\n") == 2
    assert ended.tally["received"] == 3
    assert ended.tally["rejected"] == rejected
    assert ended.peak < _MOST_MB


@for_each("value", [b"1e999", b"9" * 400, b"9" * 5000, b"-0", b'"\\u0000"'])
def test_a_hostile_value_costs_its_field_only(value: bytes) -> None:
    line = b'{"ip":"203.0.113.8","x":%b,"os.version":%b}' % (value, value)
    ended = run_measured("filter", stdin=_around([line]))
    assert ended.code == 0
    assert ended.tally["admitted"] == 3
    assert list(ended.tally["dropped"]) == ["os.version"]


_DOCUMENTS: dict[str, tuple[_Made, dict[str, Any]]] = {
    "a million empty elements": (
        lambda: [b"[", *_many(b"{},", 3_000_000), b"{}]"],
        {"too_large": 3_000_000 // (_CHUNK // 3 * 3) * (_CHUNK // 3) + 1},
    ),
    "a million keys": (lambda: _keys(1_000_000), {"nothing_admitted": 1}),
    "70 million brackets": (lambda: _many(b"[", 70_000_000), {"too_large": 1}),
    "20 million brackets": (lambda: _many(b"[", 20_000_000), {"too_deep": 1}),
    "1,001 levels": (lambda: [b"[" * 1001 + b"]" * 1001], {"too_deep": 1}),
    "60 MB of text": (
        lambda: [b'{"x":"', *_many("ü".encode(), 60_000_000), b'"}'],
        {"nothing_admitted": 1},
    ),
    "nothing": (list, {"malformed": 1}),
    "blanks": (lambda: [b" \n "], {"malformed": 1}),
}


@for_each("name", _DOCUMENTS)
def test_a_hostile_document_is_counted(tmp_path: Path, name: str) -> None:
    chunks, rejected = _DOCUMENTS[name]
    for is_packed in (False, True) if IS_WHOLE else [bool([*_DOCUMENTS].index(name) % 2)]:
        path, size = tmp_path / ("a.json.gz" if is_packed else "a.json"), 0
        with gzip.open(path, "wb", compresslevel=1) if is_packed else path.open("wb") as file:
            for chunk in chunks():
                size += file.write(chunk)
        ended = run_measured("filter", path)
        assert ended.code == 0, ended.err
        assert ended.out == b""
        assert ended.tally["rejected"] == rejected
        assert ended.tally["received"] == sum(rejected.values())
        assert ended.tally.get("bytes_in", 0) == size
        assert ended.peak < _MOST_MB


def test_a_bomb_is_filtered_as_it_unfolds(tmp_path: Path) -> None:
    """A gigabyte of lines in a few kilobytes of zstd takes constant memory."""
    from collector.ingest.decompression import zstd_library  # noqa: PLC0415

    zstd = zstd_library()
    path = tmp_path / "bomb.ndjson.zst"
    with zstd.ZstdFile(path, "wb") as handle:
        for chunk in _many(b"0" * 65535 + b"\n", 200_000_000):
            handle.write(chunk)
    ended = run_measured("filter", path)
    assert ended.code == 0
    assert ended.tally["rejected"] == {"malformed": ended.tally["received"]}
    assert ended.tally["received"] == 200_000_000 // _CHUNK * 16
    assert ended.peak < _MOST_MB
