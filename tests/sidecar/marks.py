"""Canaries of every type, issued one by one. Each knows where it was put, so that a leak names its
source.

``collector.testing.scan`` finds texts in every encoding, and numbers as digits. This module finds
numbers as the bytes that programs and SQLite write for them.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from collector.testing import canaries, scan
from tests.support.deadline import WAIT_SECONDS
from tests.support.unpacked import unpacked

_OWN = len("-01234567")
"""The length of a canary's own part; the rest is common to all."""
_LEFT = 2
"""How many of the common digits suffice to recognise a canary that was cut off after them."""
_SQLITE = b"SQLite format 3\0"


class Leak(NamedTuple):
    """A canary in a file: where it had been put, and its form in the file."""

    file: str
    place: str
    form: str


class Marks:
    """Issues texts and numbers that occur nowhere else. ``places`` says where each was put.

    Whole numbers of 64 bits have 19 digits, those of 32 bits have 10; fractions have 15. Booleans
    are not issued: they have too few values to be recognised.
    """

    def __init__(self) -> None:
        self._beginning, _, _ = canaries(1)[0].rpartition("-")
        self._common = f"7{secrets.randbelow(10**8):08}"
        self._narrow = 20 * 10**8 + secrets.randbelow(10**4) * 10**4
        self.places: dict[str, str] = {}
        self._wides: dict[int, str] = {}
        self._narrows: dict[int, str] = {}
        self._fractions: dict[float, str] = {}

    def text(self, where: str) -> str:
        """Return a text that matches a pattern of twelve hexadecimal digits and four others."""
        canary = None
        while canary is None or canary in self.places:
            own = f"{secrets.token_hex(2)}{secrets.randbelow(10**4):04}"
            canary = f"{self._beginning}-{own}"
        self.places[canary] = where
        return canary

    def data(self, where: str) -> bytes:
        """Return such a text as bytes."""
        return self.text(where).encode()

    def whole(self, where: str) -> int:
        """Return a number of 63 bits."""
        digits = f"{self._common}{len(self._wides):010}"
        self.places[digits] = where
        self._wides[int(digits)] = where
        return int(digits)

    def narrow(self, where: str) -> int:
        """Return a number of 31 bits."""
        number = self._narrow + len(self._narrows)
        self.places[str(number)] = where
        self._narrows[number] = where
        return number

    def fraction(self, where: str) -> float:
        """Return a number between 0.7 and 0.8."""
        digits = f"{self._common}{len(self._fractions):05}1"
        self.places[digits] = where
        self._fractions[float(f"0.{digits}")] = where
        return float(f"0.{digits}")

    def found(self, *paths: Path) -> list[Leak]:
        """Return the canaries in files and directories, including canaries that were cut short."""
        with TemporaryDirectory() as folder:
            for path in paths:
                for file in path.rglob("*.db*") if path.is_dir() else [path]:
                    if batches := b"\n".join(unpacked(file)):
                        (Path(folder) / file.name).write_bytes(batches)
            return self._found(*paths, Path(folder))

    def _found(self, *paths: Path) -> list[Leak]:
        leaks, packed = [], [_Packed(*family) for family in self._families()]
        for needles, marks in self._kinds():
            hits = scan(paths, needles)
            suspects = dict.fromkeys(hit.path for hit in hits)
            known = scan([path for path in suspects if path.is_file()], marks) if hits else []
            leaks += [Leak(hit.path.name, self.places[hit.canary], hit.encoding) for hit in known]
            for path in suspects.keys() - {hit.path for hit in known}:
                leaks.append(Leak(path.name, "a part of a canary", "cut short or in the name"))
        for path in paths:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    leaks += self._numbers(file, packed)
        return leaks

    def _kinds(self) -> Iterator[tuple[list[str], list[str]]]:
        """Texts, numbers of many digits and of few: each as what to search first, and all of
        them."""
        narrows = [*map(str, self._narrows)]
        texts = [mark for mark in self.places if mark.startswith("c")]
        if texts:
            _, run, _ = texts[0].split("-")
            yield [texts[0][: -len(run) - _OWN + _LEFT], run], texts
        if digits := list(self.places.keys() - {*texts, *narrows}):
            yield [self._common], digits
        if narrows:
            yield narrows, narrows

    def _numbers(self, file: Path, packed: Sequence[_Packed]) -> Iterator[Leak]:
        """Find numbers that are not written as digits: as bytes, and as values of databases."""
        data = file.read_bytes()
        for family in packed:
            yield from (Leak(file.name, place, "packed") for place in family.found(data))
        if data.startswith(_SQLITE):
            known = self._wides | self._narrows | self._fractions
            for value in _values(file):
                if value in known:
                    yield Leak(file.name, known[value], "value")

    def _families(self) -> Iterator[tuple[Callable[[Any], bytes], Mapping[Any, str]]]:
        """How numbers of 64 bits are packed: in both byte orders, and as protobuf does."""
        for numbers, code in ((self._wides, "q"), (self._fractions, "d")):
            if numbers:
                yield Struct(f"<{code}").pack, numbers
                yield Struct(f">{code}").pack, numbers
        if self._wides:
            yield _varint, self._wides
            yield lambda number: _varint(number << 1), self._wides


class _Packed:
    """Numbers packed in one way. Their common part is searched for, the rest is compared."""

    def __init__(self, pack: Callable[[Any], bytes], numbers: Mapping[Any, str]) -> None:
        self._places = {pack(number): place for number, place in numbers.items()}
        needles = list(self._places)
        self._length = len(needles[0])
        head = _beginning(needles)
        tail = _beginning([needle[::-1] for needle in needles])[::-1]
        self._common = max(head, tail, key=len)
        self._before = 0 if self._common == head else self._length - len(tail)

    def found(self, data: bytes) -> set[str]:
        """The places of the numbers that are in the data."""
        found, at = set(), data.find(self._common)
        while at >= 0:
            start = max(0, at - self._before)
            found.add(self._places.get(data[start : start + self._length]))
            at = data.find(self._common, at + 1)
        return {place for place in found if place is not None}


def _beginning(texts: Sequence[bytes]) -> bytes:
    """The common prefix of all: that of the first and the last in order."""
    first, last = min(texts), max(texts)
    pairs = enumerate(zip(first, last, strict=True))
    return first[: next((at for at, (one, other) in pairs if one != other), len(first))]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _values(file: Path) -> Iterator[float]:
    """Every number in a database, of whatever size."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in db.execute(f'SELECT * FROM "{name}"'):
                yield from (value for value in row if isinstance(value, int | float))
