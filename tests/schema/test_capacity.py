"""The width of records, and that ``size`` is exactly the number of canonical values.

Where a set is small, everything that could be a value is fed through ``canonical`` and what comes
out is counted. Where it is not, the parts of it are.
"""

from __future__ import annotations

import re
from base64 import b32decode
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import cache
from itertools import product
from math import log2
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.schema import Schema
from collector.schema.kinds import KINDS, FieldBase
from collector.schema.kinds.pseudonym import PseudonymField
from collector.schema.model import field_bits, record_bits
from collector.testing._values import values
from tests.schema.conftest import Faults, Loader
from tests.strategies import schemas
from tests.support.make_schemas import NOW, canonical, field, one
from tests.support.rows import for_each


def test_a_field() -> None:
    """A field holds its values or nothing; a required one holds its values only."""
    assert field_bits(field("boolean")) == pytest.approx(log2(3))
    assert field_bits(field("boolean", required=True)) == 1
    assert field_bits(field("enum", values=["a"])) == 1
    assert field_bits(field("enum", values=["a"], required=True)) == 0
    assert field_bits(field("pseudonym", key="env:A", rotate="1d", required=True)) == 128


def test_a_record(load: Loader) -> None:
    schema = load(one("kind: enum, values: [a, b, c, d, e, f, g]"))
    assert record_bits(schema) == pytest.approx(1 + 3)


def test_aliases_and_sources_add_nothing(load: Loader) -> None:
    wide = one("kind: enum, values: [a], aliases: {b: a, c: a}, fold_case: true, from: [x, y]")
    assert record_bits(load(wide)) == 2


@for_each(("allowed", "codes"), [(3, ["E307"]), (4, []), (5, [])])
def test_max_bits(faults: Faults, allowed: int, codes: list[str]) -> None:
    text = one("kind: enum, values: [a, b, c, d, e, f, g]") + f"max_bits: {allowed}\n"
    assert [fault.code for fault in faults(text)] == codes


# -- every value of a small set -------------------------------------------------------------------


def _distinct(of: FieldBase, fed: Iterable[Any], now: Any = NOW) -> set[Any]:
    """What comes out when all of it is fed; a canonical value, pseudonyms aside, gives itself."""
    make = canonical(of, now)
    found = {made for value in fed if (made := make(value)) is not None}
    stable = () if isinstance(of, PseudonymField) else found
    assert all(make(made) == made for made in stable)
    return found


def _texts(alphabet: str, longest: int) -> Iterator[str]:
    """Every text of at most so many characters."""
    for length in range(longest + 1):
        yield from map("".join, product(alphabet, repeat=length))


def test_boolean() -> None:
    assert _distinct(field("boolean"), [True, False]) == {True, False}
    assert field("boolean").size() == 2


@for_each(
    "options",
    [
        {"values": ["a"]},
        {"values": ["ab", "AB", "b"]},
        {"values": ["ab", "b"], "aliases": {"A": "b", "ba": "ab", "bb": "b"}},
        {"values": ["Ab", "b"], "aliases": {"BA": "Ab", "bb": "b"}, "fold_case": True},
        {"values": ["aa", "b"], "aliases": {"B": "b"}, "fold_case": True},
    ],
)
def test_enum(options: dict[str, Any]) -> None:
    of = field("enum", **options)
    found = _distinct(of, _texts("aAbB", 4))
    assert found == set(options["values"])
    assert of.size() == len(found)


_DIGITS = [text for text in _texts("0123456789", 2) if text]


@for_each("parts", [1, 2, 3, 4])
@for_each("maximum", [[0, 0, 0, 0], [9, 3, 1, 2], [3, 0, 9, 9]])
def test_version_of_single_digits(parts: int, maximum: list[int]) -> None:
    of = field("version", parts=parts, maximum=maximum)
    fed = (".".join(numbers) for n in (1, 2, 3, 4) for numbers in product("0123456789", repeat=n))
    assert len(_distinct(of, fed)) == of.size()


@for_each("parts", [1, 2])
@for_each("maximum", [[10, 99], [12, 7], [9, 11], [99, 0]])
def test_version_of_two_digits(parts: int, maximum: list[int]) -> None:
    """Zeros in front are included."""
    of = field("version", parts=parts, maximum=maximum)
    fed = [*_DIGITS, *(f"{first}.{second}" for first, second in product(_DIGITS, repeat=2))]
    assert len(_distinct(of, fed)) == of.size()


@for_each(
    "pattern",
    ["a", "a?", "a|ab?", "(a|b){1,3}", "(a?b?){2}", "[ab]{0,2}c?", "(ab|a)(bc|c)?", "(a|a|b)c{2}"],
)
def test_token_of_a_pattern(pattern: str) -> None:
    """The pattern is judged by Python's own regular expressions."""
    of = field("token", pattern=pattern)
    fed = list(_texts("abc", 5))
    found = _distinct(of, fed)
    assert found == {text for text in fed if re.fullmatch(pattern, text)}
    assert of.size() == len(found)


def test_token_of_a_catalogue(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("# source: us\na\n\nab\n# no\nb a\n")
    of = field("token", tmp_path, catalogue="mine")
    found = _distinct(of, [*_texts("ab ", 3), "# no", "# source: us"])
    assert found == {"a", "ab", "b a"}
    assert of.size() == 3


@for_each(("low", "high", "step"), [(0, 0, 1), (0, 10, 1), (0, 10, 3), (-9, 8, 3), (-20, -7, 5)])
def test_integer(low: int, high: int, step: int) -> None:
    of = field("integer", minimum=low, maximum=high, step=step)
    assert len(_distinct(of, range(-100, 100))) == of.size()


@for_each(
    ("low", "high", "step"),
    [(0, 1, 0.1), (-0.3, 0.3, 0.1), (0, 0.95, 0.1), (-1, 1, 0.25), (0, 0.07, 0.01), (2, 2, 0.5)],
)
def test_number(low: float, high: float, step: float) -> None:
    of = field("number", minimum=low, maximum=high, step=step)
    assert len(_distinct(of, (n / 10_000 for n in range(-20_000, 20_001)))) == of.size()


@for_each(
    ("precision", "within"),
    [
        *(("second", "30s"), ("second", "2m"), ("minute", "1m"), ("minute", "90s")),
        *(("hour", "1h"), ("hour", "90m"), ("day", "1d"), ("day", "36h")),
    ],
)
def test_time(precision: str, within: str) -> None:
    of = field("time", precision=precision, within=f"±{within}")
    step = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[precision]
    grain = max(1, step // 60)
    moments = [NOW + timedelta(seconds=offset) for offset in range(0, step + grain, grain)]
    counts = []
    for now in moments[:: max(1, len(moments) // 12)]:
        around = int(now.timestamp())
        counts.append(
            len(_distinct(of, range(around - 3 * step, around + 3 * step, grain), now))
            if step > 60
            else len(_distinct(of, range(around - 400, around + 400), now))
        )
    assert max(counts) == of.size()


# -- addresses, by their prefixes -----------------------------------------------------------------


@cache
def _v4(kept: int) -> int:
    """How many IPv4 networks come out: the first, the last and another address of each is fed."""
    of, lost = field("ip", truncate={"ipv4": kept, "ipv6": 16}), 32 - kept
    fed = (
        inet_ntop(AF_INET, (network << lost | host).to_bytes(4))
        for network in range(1 << kept)
        for host in (0, 1, (1 << lost) - 1)
    )
    return len(_distinct(of, fed))


_BLOCKS = (0x0000, 0x0064, 0x2002, 0xFE80, 0xFE90, 0xFEA0, 0xFEBF, 0xFF00, 0xFF02, 0xFFFF)
"""The first 16 bits where something is refused or becomes IPv4, as far as a few stand for all."""


@cache
def _v6(kept: int, first: int, blocks: int = 1) -> int:
    """How many IPv6 networks come out of so many blocks of 16 bits."""
    of, lost, more = field("ip", truncate={"ipv4": 8, "ipv6": kept}), 128 - kept, kept - 16
    fed = (
        inet_ntop(AF_INET6, (network << lost | host).to_bytes(16))
        for network in range(first << more, first + blocks << more)
        for host in (0, (1 << lost) - 1, 0xFFFF << 32 | 0xCB007107)
    )
    return len({made for made in _distinct(of, fed) if ":" in made})


def test_ipv4() -> None:
    for kept in (*range(8, 15), 16):
        of = field("ip", truncate={"ipv4": kept, "ipv6": 16})
        assert of.size() - _all_v6(16) == _v4(kept), kept


@cache
def _all_v6(kept: int) -> int:
    """Every network of 16 bits, counted; of more bits, those blocks that differ from the rest."""
    if kept == 16:
        return _v6(16, 0, 1 << 16)
    special = 1 + 1 + 1 + 0x40 + 0x100  # ::, 64::, 2002::, fe80::/10, ff00::/8
    counted = _v6(kept, 0x0000) + _v6(kept, 0x0064)
    assert {_v6(kept, block) for block in _BLOCKS[2:]} == {0}
    ordinary = {_v6(kept, block) for block in (0x0001, 0x2001, 0x2003, 0xFDFF, 0xFEC0)}
    assert ordinary == {1 << (kept - 16)}
    return counted + ((1 << 16) - special << (kept - 16))


def test_ipv6() -> None:
    for kept in range(16, 25):
        of = field("ip", truncate={"ipv4": 8, "ipv6": kept})
        assert of.size() - _v4(8) == _all_v6(kept), kept


# -- what cannot be enumerated --------------------------------------------------------------------


def test_pseudonyms_use_all_their_bits() -> None:
    of = field("pseudonym", key="env:A", rotate="1d")
    found = {canonical(of)(f"person {n}") for n in range(3000)}
    assert len(found) == 3000
    plain = [int.from_bytes(b32decode(f"{text}======".upper())) for text in found]
    ever, always = 0, (1 << 128) - 1
    for number in plain:
        ever, always = ever | number, always & number
    assert (ever, always) == ((1 << 128) - 1, 0)
    assert of.size() == 1 << 128


@settings(max_examples=max(1, settings().max_examples // 2))
@given(schemas(), st.data())
def test_no_field_gives_more_than_its_size(schema: Schema, data: st.DataObject) -> None:
    for of in schema.fields.values():
        fed = data.draw(st.lists(values(of, NOW), max_size=8))
        accepted = [value for value in fed if type(value) in of.reads()]
        assert len(_distinct(of, accepted)) <= of.size()
    assert record_bits(schema) == pytest.approx(sum(map(field_bits, schema.fields.values())))


def test_every_kind_is_counted_here() -> None:
    tested = {name.split("_")[1] for name in globals() if name.startswith("test_")}
    tested |= {"ip"} if "ipv4" in tested and "ipv6" in tested else set()
    tested |= {"pseudonym"} if "pseudonyms" in tested else set()
    assert set(KINDS) <= tested
