"""What the filter and the store are told about each kind."""

from __future__ import annotations

from typing import Any

import pytest

from collector.schema.kinds import KINDS
from collector.schema.kinds.base import FieldBase
from tests.schema.make import canonical, field

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


@pytest.mark.parametrize("kind", KINDS)
def test_facts(kind: str) -> None:
    """Types, column and repetition of each kind; a field is optional and does not expire."""
    options, wire, column, repeats = _FACTS[kind]
    of = field(kind, **options)
    assert of.wire == frozenset(wire)
    assert (of.column, of.repeats) == (column, repeats)
    assert (of.required, of.expires, of.sources) == (False, None, None)
    assert of.size() >= 1
    assert callable(canonical(of))


def test_every_kind_says_what_it_is() -> None:
    """A kind has a canonical form and a size of its own."""
    for kind, model in KINDS.items():
        assert {"canonical", "size"} <= set(vars(model)), kind
        assert model.canonical is not FieldBase.canonical
