"""The width of records."""

from __future__ import annotations

from math import log2

import pytest

from collector.schema.capacity import field_bits, record_bits
from tests.schema.conftest import Faults, Loader
from tests.schema.make import field, one


def test_a_field() -> None:
    """A field holds its values or nothing; a required one holds its values only."""
    assert field_bits(field("boolean")) == pytest.approx(log2(3))
    assert field_bits(field("boolean", required=True)) == 1
    assert field_bits(field("enum", values=["a"])) == 1
    assert field_bits(field("enum", values=["a"], required=True)) == 0
    assert field_bits(field("pseudonym", key="env:A", rotate="1d", required=True)) == 128


def test_a_record(load: Loader) -> None:
    """A record is as wide as its fields together."""
    schema = load(one("kind: enum, values: [a, b, c, d, e, f, g]"))
    assert record_bits(schema) == pytest.approx(1 + 3)


def test_aliases_and_sources_add_nothing(load: Loader) -> None:
    """What a value is called in the event does not widen the record."""
    wide = one("kind: enum, values: [a], aliases: {b: a, c: a}, fold_case: true, from: [x, y]")
    assert record_bits(load(wide)) == 2


@pytest.mark.parametrize(("allowed", "codes"), [(3, ["E307"]), (4, []), (5, [])])
def test_max_bits(faults: Faults, allowed: int, codes: list[str]) -> None:
    """A record may be exactly as wide as ``max_bits``, never wider."""
    text = one("kind: enum, values: [a, b, c, d, e, f, g]") + f"max_bits: {allowed}\n"
    assert [fault.code for fault in faults(text)] == codes
