"""Leaks planted in each kind of place: the search finds all of them."""

from __future__ import annotations

import gzip
import sqlite3
import struct
import zlib
from contextlib import closing
from pathlib import Path
from random import Random

from tests.sidecar.marks import Marks
from tests.support.rows import for_each

_NOISE = bytes(range(256)) * 40
_KNOWN = len("canary-01")
"""This much of a canary that was cut short suffices to recognise it."""


def _dealt(marks: Marks) -> None:
    """Issue some of each kind, as in a sweep."""
    for number in range(20):
        marks.text(f"text {number}")
        marks.whole(f"whole {number}")
        marks.narrow(f"narrow {number}")
        marks.fraction(f"fraction {number}")


def _planted(folder: Path, marks: Marks, data: bytes) -> set[str]:
    """What is found when the data is surrounded by other data."""
    _dealt(marks)
    (folder / "file").write_bytes(_NOISE + data + _NOISE)
    return {leak.place for leak in marks.found(folder)}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    marks, other = Marks(), Marks().text("another run's")
    while other[:_KNOWN] == marks.text("this run's")[:_KNOWN]:  # 1 run in 256 begins alike
        marks = Marks()
    (tmp_path / "other").write_text(other)
    assert _planted(tmp_path, marks, b"") == set()
    assert Marks().found(tmp_path) == []


def test_a_text_is_found(tmp_path: Path) -> None:
    marks = Marks()
    text = marks.text("planted")
    data = gzip.compress(zlib.compress(text.encode()))
    assert _planted(tmp_path, marks, data) == {"planted"}


@for_each("cut", [slice(0, 15), slice(0, 10), slice(5, None), slice(7, 16)])
def test_a_text_that_is_cut_is_found(cut: slice, tmp_path: Path) -> None:
    marks = Marks()
    data = marks.text("planted")[cut].encode()
    assert _planted(tmp_path, marks, data) == {"a part of a canary"}


@for_each("pack", ["<q", ">q", "<d", ">d"])
def test_a_number_is_found_as_bytes(pack: str, tmp_path: Path) -> None:
    """Whole numbers and fractions, in both byte orders."""
    marks = Marks()
    number = marks.fraction("planted") if pack[1] == "d" else marks.whole("planted")
    assert _planted(tmp_path, marks, struct.pack(pack, number)) == {"planted"}


@for_each("kind", ["whole", "narrow", "fraction"])
def test_a_number_is_found_as_digits(kind: str, tmp_path: Path) -> None:
    """Inside a text."""
    marks = Marks()
    number = getattr(marks, kind)("planted")
    assert _planted(tmp_path, marks, b'{"n": %s}' % repr(number).encode()) == {"planted"}


@for_each("kind", ["text", "whole", "narrow", "fraction"])
@for_each("place", ["row", "log", "deleted"])
def test_a_value_of_a_database_is_found(kind: str, place: str, tmp_path: Path) -> None:
    """In a row, only in the write-ahead log, and in the remains of a deleted row. The last does not
    hold for numbers of 31 bits, whose four bytes occur by chance."""
    marks = Marks()
    value = getattr(marks, kind)("planted")
    _dealt(marks)
    with closing(sqlite3.connect(tmp_path / "some.db", isolation_level=None)) as db:
        db.execute(f"PRAGMA journal_mode = {'WAL' if place == 'log' else 'DELETE'}")
        db.execute("CREATE TABLE t (a, b)")
        db.execute("INSERT INTO t VALUES ('x', ?)", (value,))
        if place == "deleted":
            db.execute("PRAGMA secure_delete = OFF")
            db.execute("DELETE FROM t")
        found = {leak.place for leak in marks.found(tmp_path)}
    assert found == (set() if (kind, place) == ("narrow", "deleted") else {"planted"})


def test_a_text_in_a_large_batch_is_found(tmp_path: Path) -> None:
    """The batch is compressed, and split among many pages."""
    marks = Marks()
    text = Random(7).randbytes(200_000).hex() + marks.text("planted")
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db, db:
        db.execute("CREATE TABLE batches (payload BLOB)")
        db.execute("INSERT INTO batches VALUES (?)", (zlib.compress(text.encode(), 1),))
    assert {(leak.file, leak.place) for leak in marks.found(tmp_path)} == {("spool.db", "planted")}


def test_a_name_of_a_file_is_found(tmp_path: Path) -> None:
    marks = Marks()
    _dealt(marks)
    (tmp_path / marks.text("planted")).mkdir()
    assert {leak.form for leak in marks.found(tmp_path)} == {"cut short or in the name"}
