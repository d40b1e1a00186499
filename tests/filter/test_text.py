"""Texts before they are parsed: cut into parts of whole lines, and their objects counted."""

from __future__ import annotations

import gc
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import ValidationError

from collector import Filter, load_schema
from collector.filter.otlp.wire import MAX_PARTS
from collector.filter.text import PIECE, has_more_objects, is_utf8, pieces

_TEXTS = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n"]), max_size=30).map(b"".join)


@given(_TEXTS, st.integers(1, 40))
def test_parts_are_whole_lines_and_no_more_than_asked_for(payload: bytes, size: int) -> None:
    """Together they are the payload; only a single line is longer than asked for, only the last
    may lack its end."""
    parts = list(pieces(payload, size))
    assert b"".join(parts) == payload
    for part in parts:
        assert len(part) <= size or b"\n" not in part[:-1]
        assert part.endswith(b"\n") or part is parts[-1]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_objects_are_counted_outside_of_texts(objects: int, texts: int, most: int) -> None:
    """Those in strings are none."""
    text = b"[" + b",".join([b"{}"] * objects + [rb'"{\"{"'] * texts) + b"]"
    assert has_more_objects(text, most) == (objects > most)


@pytest.mark.parametrize("number", [MAX_PARTS - 5, MAX_PARTS + 1])
def test_objects_of_otlp(number: int) -> None:
    """As many as protobuf may have messages; a body of more is not decoded at all."""
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}],"a":[%b{}]}' % (b"{}," * number)
    tally = Filter(load_schema("conferencing")).admit_otlp("logs", body, protobuf=False).tally
    reason = "too_large" if number > MAX_PARTS else "nothing_admitted"
    assert tally.rejected == {reason: 1}


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


_PARTS = st.sampled_from(
    [
        "ä".encode(),
        "語".encode(),
        "😀".encode(),
        b"a",
        b"\x80",
        b"\xe8\xaa",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"\xf0\x9f\x98",
        b"\x80" * 5,
        b"\x00",
        b"\xef\xbf\xbf",
    ]
)


@given(st.integers(-5, 5), st.lists(_PARTS, max_size=4).map(b"".join), st.booleans())
def test_utf8_is_what_python_decodes(shift: int, part: bytes, short: bool) -> None:
    """Also around the border of a piece, and of a view: no surrogates, no overlong forms."""
    head = b"" if short else "é".encode() * ((PIECE + shift) // 2) + b"a" * (shift % 2)
    text = head + part + b"z"
    assert is_utf8(text) == is_utf8(memoryview(text)) == _decodes(text)


def test_no_text_outlives_a_check_of_utf8() -> None:
    """The exception by which a piece is measured holds the piece."""
    text = "ä".encode() * 5000
    before = sys.getrefcount(text)
    assert is_utf8(text)
    assert not is_utf8(text + b"\xff")
    assert sys.getrefcount(text) == before
    assert not [error for error in gc.get_objects() if type(error) is ValidationError]
