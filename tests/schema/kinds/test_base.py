"""What the filter and the store are told about each kind."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.schema.kinds import KINDS
from collector.schema.kinds.base import FieldBase
from collector.testing._drawn import DRAWN, draw_value
from tests.strategies import draw_options
from tests.strategies.options import OPTIONS
from tests.support.make_schemas import NOW, canonical, field
from tests.support.rows import for_each

_FACTS: dict[str, tuple[dict[str, Any], set[type], str, bool]] = {
    "ip": ({}, {str}, "TEXT", False),
    "enum": ({"values": ["a"]}, {str}, "TEXT", True),
    "version": ({}, {str}, "TEXT", True),
    "token": ({"pattern": "a"}, {str}, "TEXT", True),
    "integer": ({"minimum": 0, "maximum": 1, "step": 1}, {int}, "INTEGER", False),
    "number": ({"minimum": 0, "maximum": 1, "step": 1}, {int, float}, "REAL", False),
    "boolean": ({}, {bool}, "INTEGER", False),
    "time": ({}, {str, int, float}, "TEXT", False),
    "pseudonym": ({"key": "env:A", "rotate": "1d"}, {str}, "TEXT", False),
}
"""Per kind: options, the JSON types that it reads, its column, and whether few values are many."""


@for_each("kind", KINDS)
def test_facts(kind: str) -> None:
    options, wire, column, repeats = _FACTS[kind]
    of = field(kind, **options)
    assert of.wire == frozenset(wire)
    assert (of.column, of.repeats) == (column, repeats)
    assert (of.required, of.expires, of.sources) == (False, None, None)
    assert of.size() >= 1
    assert callable(canonical(of))


def test_every_kind_can_be_drawn() -> None:
    assert list(OPTIONS) == list(DRAWN) == list(KINDS)


_TYPES = {"TEXT": str, "INTEGER": int, "REAL": float}


@pytest.mark.parametrize("kind", KINDS)
@given(st.randoms(use_true_random=False), st.data())
def test_a_column_is_checked_as_each_value_is(kind: str, random: Random, data: Any) -> None:
    """All at once, or one by one: the same values are those of the kind; absence is none."""
    of = field(kind, **draw_options(kind, random))
    first, last = NOW - timedelta(minutes=30), NOW
    stored, make = of.stored_between(first, last), canonical(of)
    only = bool if of.wire == {bool} else _TYPES[of.column]
    drawn = [draw_value(of, random, NOW) for _ in range(6)]
    found = [*drawn, *(make(value) for value in drawn if type(value) in of.reads())]
    found += [_nearly(value, random) for value in found]
    found += data.draw(
        st.lists({str: st.text(max_size=30), int: st.integers()}.get(only, st.none()))
    )
    values = [value for value in found if type(value) is only and type(value) in of.wire]
    good = [value for value in values if stored(value) is not None]
    check = of.column_check(first, last)
    assert check([])
    assert check([*good, None, *good])
    for value in values:
        assert check((None, value)) == (value in good), value


def _nearly(value: Any, random: Random) -> Any:
    """A value with a small change."""
    if isinstance(value, str):
        at = random.randint(0, len(value))
        put = random.choice(["", "0", "1", ".", ":", " ", "\n", "\0", "é", "٣", "224", "169.254"])
        return value[:at] + put + value[at + random.randint(0, 2) :]
    return value if value is None or isinstance(value, bool) else value + random.choice([1, -1, 7])


def test_every_kind_says_what_it_is() -> None:
    for kind, model in KINDS.items():
        assert {"canonical", "size"} <= set(vars(model)), kind
        assert model.canonical is not FieldBase.canonical
