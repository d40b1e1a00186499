"""Texts before they are parsed: each function against its meaning, said for the whole text."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import ValidationError

from collector import Filter, load_schema
from collector.filter import derive, event_consent
from collector.filter import text as looks
from collector.filter.otlp.wire import MAX_LEVELS, MAX_PARTS
from collector.filter.records import MAX_ITEMS
from collector.filter.text import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    MAX_LINE,
    are_readable,
    has_more_lines,
    has_more_objects,
    is_blank,
    is_list,
    is_utf8,
    may_hold_deep_lines,
    name_search,
    pieces,
    readable_lines,
    refusal,
)
from tests.filter.reference import levels
from tests.filter.test_laws import TANGLED

_SMALL = {
    "PIECE": 7,
    "MAX_LINE": 24,
    "MAX_DEPTH": 3,
    "_MAX_SHARED": 20,
    "_CHUNK": 16,
    "_WINDOW": 4,
    "_LEAST_MEASURED": 6,
}
_LINES = st.lists(
    st.one_of(
        TANGLED.map(lambda value: json.dumps([value]).encode()),
        st.sampled_from(
            [
                b"",
                b" \t\r",
                b'"\xff"',
                b"[]",
                b"[[[[1]]]]",
                b'["[[{{"]',
                "ä".encode() * 9,
                b"a" * 24,
                b"a" * 25,
            ]
        ),
    ),
    max_size=8,
).map(b"\n".join)


@contextmanager
def _in_small_pieces() -> Iterator[None]:
    """Sizes with which a short text has several pieces, slices and windows."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in _SMALL.items():
            patch.setattr(looks, name, size)
        yield


def test_limits() -> None:
    """They are part of what senders are promised."""
    assert (MAX_LINE, MAX_DOCUMENT, MAX_DEPTH) == (16 * 2**20, 64 * 2**20, 1000)
    assert (MAX_ITEMS, MAX_PARTS, MAX_LEVELS) == (50_000, 400_000, 100)
    assert (event_consent.MAX_BYTES, derive.MAX_BYTES) == (4096, 512)
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert not looks.is_deep(deepest)
    assert looks.is_deep(b"[%b]" % deepest)


def _reason(line: bytes) -> str | None:
    """Why a line is not parsed, with small sizes."""
    if len(line) > _SMALL["MAX_LINE"]:
        return "too_large"
    if not _decodes(line):
        return "malformed"
    return "too_deep" if levels(line.decode()) > _SMALL["MAX_DEPTH"] else None


@given(_LINES)
@example(b"a" * 24)
@_in_small_pieces()
def test_each_line_is_judged_as_if_alone(payload: bytes) -> None:
    every, reasons = payload.removesuffix(b"\n").split(b"\n") if payload else [], list[str]()
    found = [bytes(line).removesuffix(b"\n") for line in readable_lines(payload, reasons.append)]
    assert found == [line for line in every if _reason(line) is None]
    assert reasons == [reason for line in every if (reason := _reason(line))]
    assert [refusal(line, _SMALL["MAX_LINE"]) for line in every] == list(map(_reason, every))
    assert are_readable(payload) <= all(_reason(line) in (None, "too_large") for line in every)


@given(_LINES, st.integers(0, 9))
@example(b"a", 0)
@example(b"a\n\nbbbbbbb", 2)
@_in_small_pieces()
def test_lines_are_told_apart_and_counted(payload: bytes, most: int) -> None:
    """What holds nothing but white space is no line, however long."""
    every = payload.split(b"\n")
    assert has_more_lines(payload, most) == (sum(map(bool, map(bytes.strip, every))) > most)
    for text in (payload, b" " * len(payload), *every):
        blank = not text.strip(b" \t\r\n")
        assert is_blank(text) == is_blank(memoryview(text)) == blank
        assert is_list(text) == text.lstrip(b" \t\r\n").startswith(b"[")


@given(_LINES, st.integers(1, 40))
@_in_small_pieces()
def test_parts_are_as_many_whole_lines_as_fit(payload: bytes, size: int) -> None:
    """Together they are the payload; only a single line is longer, only the last may lack its
    end. A line longer than half of what fits begins no part with others."""
    parts = list(pieces(payload, size))
    assert b"".join(parts) == payload
    for part, following in zip_longest(parts, parts[1:], fillvalue=b""):
        assert len(part) <= size or b"\n" not in part[:-1]
        assert part.endswith(b"\n") or not following
        first = following[: following.find(b"\n") + 1]
        is_long = part.find(b"\n") >= size // 2
        assert not first or len(part + first) > size or (is_long and part.count(b"\n") == 1)


@given(_LINES)
@example(b"a" * 20 + b"\n[[[[")
@example(b'["aaaaaaaaaaaaaaaaaaaa[", "aaaaaaaa{aaaa{"]')
@example(b'["aaaaaaaaaaaaaaaaaaaaaaaaaaaa["]')
@example(b'{"aaaaaaaaaaaaaaaaaaaa":[[[1]]]}')
@_in_small_pieces()
def test_a_deep_line_is_never_missed(payload: bytes) -> None:
    """Brackets count in strings too: of a line alone exactly, of others together at most."""
    every = payload.split(b"\n")
    brackets = [line.count(b"[") + line.count(b"{") for line in every]
    assert [may_hold_deep_lines(line) for line in every] == [
        number > _SMALL["MAX_DEPTH"] for number in brackets
    ]
    assert may_hold_deep_lines(payload) >= any(number > _SMALL["MAX_DEPTH"] for number in brackets)
    assert may_hold_deep_lines(payload) <= (sum(brackets) > _SMALL["MAX_DEPTH"])
    assert not may_hold_deep_lines(b"\n".join([b'["%b"]' % (b"a" * 12)] * len(every)))


def test_short_objects_do_not_look_deep() -> None:
    assert not may_hold_deep_lines(b'{"o":"linux"}\n' * 20_000)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
@_in_small_pieces()
def test_objects_are_counted_outside_of_texts(objects: int, texts: int, most: int) -> None:
    text = b"[" + b",".join([b"{}"] * objects + [rb'"{\"{"'] * texts) + b"]"
    assert has_more_objects(text, most) == (objects > most)
    assert has_more_objects(b'{"a":%b}' % text, most) == (objects + 1 > most)


@pytest.mark.parametrize("text", [b"x", b"chat", b'{"cha": 1}', b"", "ch\u00e4t".encode()])
@pytest.mark.parametrize("names", [["chat"], ["no", "chat", "chat"], ["a.c"], ['a"b'], ["a\tb"]])
def test_a_name_is_found_in_whatever_form(names: list[str], text: bytes) -> None:
    find, special = name_search(names), any(c in '"\t' for c in "".join(names))
    assert find(text) == (special or any(name.encode() in text for name in names))
    assert find(text + rb"\u0061")
    assert find(text + names[0].encode() + text)


@pytest.mark.parametrize("number", [MAX_PARTS - 5, MAX_PARTS + 1])
def test_objects_of_otlp(number: int) -> None:
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


@given(st.integers(0, 14), st.lists(_PARTS, max_size=4).map(b"".join))
@_in_small_pieces()
def test_utf8_is_what_python_decodes(size: int, part: bytes) -> None:
    text = "é".encode() * (size // 2) + b"a" * (size % 2) + part + b"z"
    assert is_utf8(text) == is_utf8(memoryview(text)) == _decodes(text)


def test_no_text_outlives_a_check_of_utf8() -> None:
    """The exception by which a piece is measured holds the piece."""
    text = "ä".encode() * 5000
    before = sys.getrefcount(text)
    assert is_utf8(text)
    assert not is_utf8(text + b"\xff")
    assert sys.getrefcount(text) == before
    assert not [error for error in gc.get_objects() if type(error) is ValidationError]


_PIECE = looks.PIECE
_DEEPEST = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH


@pytest.mark.parametrize("at", [0, 1, _PIECE - 1, _PIECE, 2 * _PIECE])
def test_every_byte_of_a_long_text_counts(at: int) -> None:
    blank = b" " * (2 * _PIECE + 9)
    assert is_blank(blank)
    assert not is_blank(blank[:at] + b"a" + blank[at:])
    text = blank[:at] + b"a\n" * 3 + blank[at:]
    assert has_more_lines(text, 2)
    assert not has_more_lines(text, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_DEEPEST, False),
        (b"[%s]" % _DEEPEST, True),
        (b"[[]," + _DEEPEST[1:-1] + b"]", False),
        (b"[[]," + _DEEPEST + b"]", True),
        (b"[" * 900 + b"[]," * 400 + b"[]" + b"]" * 900, False),
        (b"[" * 999 + b"[]," * 400 + b"[]" + b"]" * 999, False),
    ],
)
def test_the_depth_is_exact(text: bytes, expected: bool) -> None:
    assert looks.is_deep(text) is expected


@pytest.mark.parametrize("start", [b"[", b'{"a":'])
def test_a_long_deep_line_is_found_from_its_first_byte(start: bytes) -> None:
    assert may_hold_deep_lines(start * 20_000)


@pytest.mark.parametrize("bracket", [b"[", b"{"])
def test_the_brackets_of_a_long_line_are_counted(bracket: bytes) -> None:
    far_apart = bracket + b"a" * 3_000
    assert not may_hold_deep_lines(far_apart * looks.MAX_DEPTH)
    assert may_hold_deep_lines(far_apart * (looks.MAX_DEPTH + 1))


def test_a_long_line_is_a_part_of_its_own() -> None:
    """It is longer than half of a part."""
    assert [*looks.line_slices(b"a" * 60 + b"\n" + b"a\n" * 3, 100)] == [
        (0, 61, True),
        (61, 67, False),
    ]
