"""``lines``: JSON text around the fields of a schema, and bytes that are not JSON.

An event is drawn first and then written down. White space, escapes, and the order and repetition of
members come from one seed and do not change the meaning. Seed 0 writes the event as compactly as
possible; failing examples shrink to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from random import Random
from typing import Any

from hypothesis import strategies as st

from collector.schema import Schema
from collector.testing._events import cached_per_schema, place
from collector.testing._values import Values, clock, junk, weighted

_BLANKS = " \t\r"
BOM = b"\xef\xbb\xbf"
Texts = st.SearchStrategy[bytes]


@dataclass(frozen=True)
class Verbatim:
    """A value that is written verbatim; lone low surrogates are bytes (PEP 383)."""

    text: str


_UNUSUAL = tuple(
    Verbatim(text)
    for text in (
        *("1e999", "-1e999", "-0", "-0.0", "1.0", "1E2", "5E+1", "1e-400"),
        *("9" * 400, "-" + "9" * 400, "9" * 5000, "18446744073709551616", "100000000000000000001"),
        *(r'"\ud83d\ude00"', r'"\/"', r'"linu\u0078"', r'"\u0000"', '"\x7f"', "[ ]", "{ }"),
    )
)
"""Well-formed values that no Python value is written as."""

_BROKEN = tuple(
    Verbatim(text)
    for text in (
        *("NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x1", "1_000", "-", "tru"),
        *(r'"\x41"', r'"\u12G4"', '"\x01"', '"open', "'a'"),
        *("[1,]", "[1 2]", '{"a":1,}', '{"a" 1}', "{a:1}"),
        *("", "undefined", "\ufeff1", "//", "/**/1", "１"),
    )
)
"""Values that are not JSON, one of which spoils the whole text."""

_SURROGATES = tuple(
    Verbatim(f'"{text}"')
    for text in (r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800A", r"\uDBFF!")
)
"""Halves of surrogate pairs, which spoil it too, although the standard library reads them."""


_NO_UTF_8 = tuple(
    Verbatim(f'"{text}"')
    for text in (
        "\udcff",
        "\udcc0\udc80",
        "\udced\udca0\udc80",
        "\udcf4\udc90\udc80\udc80",
        "\udce2",
    )
)
"""Invalid UTF-8 in a string, which some parsers skip without checking it."""


@cache
def _extra() -> Values:
    unusual, *spoiling = map(st.sampled_from, (_UNUSUAL, _BROKEN, _SURROGATES, _NO_UTF_8))
    return weighted((6, unusual), *((1, each) for each in spoiling))


@cache
def seeds() -> st.SearchStrategy[int]:
    """Ways to write a text down."""
    return st.integers(0, 2**16)


def write(value: Any, seed: int, *, spaces: str = " \t\r\n") -> bytes:
    """Write the value as JSON. Texts of one value with different seeds mean the same."""
    random = Random(seed) if seed else None  # noqa: S311 - it hides nothing
    return _Writer(random, spaces).value(value).encode(errors="surrogateescape")


class _Writer:
    def __init__(self, random: Random | None, spaces: str) -> None:
        self._random = random
        self._spaces = spaces

    def _chance(self, share: float) -> bool:
        return self._random is not None and self._random.random() < share

    def space(self) -> str:
        if self._random is None or not self._chance(0.2):
            return ""
        return "".join(self._random.choices(self._spaces, k=self._random.randint(1, 3)))

    def value(self, value: Any) -> str:
        if isinstance(value, Verbatim):
            text = value.text
        elif isinstance(value, str):
            text = self.text(value)
        elif isinstance(value, dict):
            text = self.members(value)
        elif isinstance(value, list):
            text = "[" + ",".join(map(self.value, value)) + "]"
        else:
            text = json.dumps(value)
        return f"{self.space()}{text}{self.space()}"

    def text(self, text: str) -> str:
        """Write a JSON string with some characters escaped unnecessarily."""
        if self._chance(0.5):
            return json.dumps(text)
        if not self._chance(0.3):
            return json.dumps(text, ensure_ascii=False)
        return '"' + "".join(self._character(char) for char in text) + '"'

    def _character(self, char: str) -> str:
        if char >= "\ud800" or not self._chance(0.5):
            return json.dumps(char)[1:-1]
        return f"\\u{ord(char):04X}"

    def members(self, event: dict[str, Any]) -> str:
        """Write an object. The last of equal keys counts, so earlier ones may hold anything."""
        members = list(event.items())
        if self._random is not None and self._chance(0.3):
            self._random.shuffle(members)
        written = [(key, self.value(value)) for key, value in members]
        if self._random is not None and written and self._chance(0.2):
            key, _ = self._random.choice(written)
            written.insert(0, (key, self.value(self._random.choice(_BEFORE))))
        each = (f"{self.space()}{self.text(key)}{self.space()}:{text}" for key, text in written)
        return "{" + ",".join(each) + (self.space() if not written else "") + "}"


_BEFORE: tuple[Any, ...] = (None, 1, "linux", [1], {}, {"a": 1}, "203.0.113.7", True)


@cache
def _deep() -> st.SearchStrategy[Verbatim]:
    """Values that are nested deeper than the filter reads, complete and as a list that is never
    closed."""
    depths = st.sampled_from([1001, 1500, 20_000])
    return st.one_of(
        depths.map(lambda n: Verbatim("[" * n + "]" * n)),
        depths.map(lambda n: Verbatim('{"a":' * n + "1" + "}" * n)),
        depths.map(lambda n: Verbatim("[" * n)),
    )


@st.composite
def damaged_text(draw: st.DrawFn, texts: Texts) -> bytes:
    """A text that is cut off, or has bytes inserted or around it."""
    text = draw(texts)
    at = draw(st.integers(0, min(len(text), 10_000)))
    how = draw(st.integers(0, 6))
    if how == 0:
        return text[:at]
    if how == 1:
        return text[:at] + draw(st.sampled_from(_INSERTS)) + text[at:]
    if how == 2:
        return text[:at] + draw(st.binary(max_size=3)) + text[at + 1 :]
    if how == 3:
        return draw(st.sampled_from(_INSERTS)) + text
    if how == 4:
        return text + draw(st.sampled_from(_INSERTS))
    return text + draw(texts)


_INSERTS = (
    *(BOM, b" ", b"\n", b"\r", b"\x00", b"\x0b", b"\xa0", b"\xc2\xa0", b"\xe2\x80\xa8", b"\x1a"),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"),
    *(b",", b"{", b"}", b"[", b"]", b'"', b":", b"\\", b"null", b"{}", b"[]", b"x", b"//"),
)


def written(values: Values, spaces: str = " \t\r\n") -> Texts:
    return st.builds(lambda value, seed: write(value, seed, spaces=spaces), values, seeds())


_KEYS = st.sampled_from(["a", "b", "os", "unlisted", "audio", "items"])


def _with(event: Any, key: str, more: Any) -> Any:
    return [*event, more] if isinstance(event, list) else event | {key: more}


class Kinds:
    """The values from which a schema's texts are written."""

    def __init__(self, schema: Schema, now: datetime) -> None:
        usual = place(schema, now)
        unusual = place(schema, now, _extra())
        deep = st.builds(_with, usual, _KEYS, _deep())
        self.shallow = weighted((2, usual), (1, unusual))
        self.event = weighted((9, self.shallow), (1, deep))
        self.other = weighted((2, junk()), (2, _extra()), (1, _deep()))

    def several(self, event: Values) -> Values:
        """Lists of events, with some elements that are not events."""
        return st.lists(weighted((6, event), (1, junk()), (1, _extra())), max_size=3)


def lines(schema: Schema, *, now: datetime | None = None) -> Texts:
    """NDJSON: lines with one event each, some of them repeated; blank lines; and lines with no
    event or with two."""
    return _lines(schema, now or clock())


@cached_per_schema
def _lines(schema: Schema, now: datetime) -> Texts:
    kinds = Kinds(schema, now)
    whole = written(kinds.event, _BLANKS)
    damaged = damaged_text(written(kinds.shallow, _BLANKS))
    other = written(weighted((2, kinds.other), (1, kinds.several(kinds.shallow))), _BLANKS)
    blank = st.sampled_from([b"", b" ", b"\r", b"\t \r", b"\x0b", b"\x1f ", b"\x00"])
    line = weighted((9, whole), (2, damaged), (1, other), (1, blank), (1, st.binary(max_size=9)))
    return st.builds(
        lambda start, listed, again, end: start + b"\n".join(listed + listed[again:]) + end,
        st.sampled_from([b"", b"", b"", BOM, b"\n", BOM + BOM]),
        st.lists(line, min_size=1, max_size=5),
        st.sampled_from([9, 9, 0, 1, -1]),
        st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]),
    )
