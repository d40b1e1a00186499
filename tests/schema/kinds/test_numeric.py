"""``integer`` and ``number``: in range, rounded down, exact."""

from __future__ import annotations

import decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.schema.kinds import FieldBase
from tests.schema.make import canonical, field, refuses

_INTEGERS = st.builds(
    lambda low, steps, more, step: field(
        "integer", minimum=low * step, maximum=low * step + steps * step + more % step, step=step
    ),
    st.integers(-20, 20),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 7),
)


@given(_INTEGERS, st.integers(-300, 300) | st.integers())
def test_integers(of: FieldBase, value: int) -> None:
    """A whole number in range becomes the greatest multiple of the step that is not above it."""
    make, low, high, step = canonical(of), of.minimum, of.maximum, of.step  # type: ignore[attr-defined]
    found = make(value)
    if not low <= value <= high:
        assert found is None
        return
    assert found == max(multiple for multiple in range(low, high + 1, step) if multiple <= value)
    assert type(found) is int
    assert make(found) == found


@given(_INTEGERS)
def test_the_size_of_integers(of: FieldBase) -> None:
    """The size is the number of different values that come out."""
    make = canonical(of)
    assert len({make(value) for value in range(-200, 400)} - {None}) == of.size()


@pytest.mark.parametrize("value", [-(2**63), 2**63, 10**400, -(10**400)])
def test_huge_integers(value: int) -> None:
    """A number of any length is compared, and refused."""
    most = 2**63 - 1
    make = canonical(field("integer", minimum=-most, maximum=most, step=1))
    assert make(value) is None
    assert (make(most), make(-most)) == (most, -most)


_STEPS = st.sampled_from([0.1, 0.25, 0.3, 1, 2.5, 7, 10, 1000, 0.001, 1e-6, 0.7])
_NUMBERS = st.builds(
    lambda step, low, steps: field(
        "number",
        minimum=float(Fraction(str(step)) * low),
        maximum=float(Fraction(str(step)) * (low + steps)),
        step=step,
    ),
    _STEPS,
    st.integers(-100, 100),
    st.integers(0, 300),
)


def _exact(value: float) -> Fraction:
    return Fraction(repr(value))


@given(_NUMBERS, st.floats() | st.floats(-100, 100) | st.integers(-1000, 1000))
def test_numbers(of: FieldBase, value: float) -> None:
    """A number in range becomes the greatest multiple of the step not above it, in decimal."""
    make, low, high, step = canonical(of), of.minimum, of.maximum, of.step  # type: ignore[attr-defined]
    found = make(value)
    if not low <= value <= high:
        assert found is None
        return
    assert isinstance(found, float)
    assert _exact(found) == _exact(value) // _exact(step) * _exact(step)
    assert low <= found <= value
    assert make(found) == found
    assert str(found) != "-0.0"


@given(_NUMBERS)
def test_every_multiple_is_itself(of: FieldBase) -> None:
    """Each multiple of the step is canonical, and their number is the size."""
    make, low, high, step = canonical(of), of.minimum, of.maximum, of.step  # type: ignore[attr-defined]
    count = (_exact(high) - _exact(low)) // _exact(step) + 1
    multiples = [float(_exact(low) + number * _exact(step)) for number in range(count)]
    assert [make(value) for value in multiples] == multiples
    assert of.size() == len(set(multiples)) == count


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (0.3, 0.3),
        (0.30000000000000004, 0.3),
        (0.29999999999999993, 0.2),
        (0.7, 0.7),
        (1, 1.0),
        (-0.05, -0.1),
        (-0.1, -0.1),
        (-0.0, 0.0),
        (5e-324, 0.0),
        (-5e-324, -0.1),
        (10, 10.0),
        (10.000000000000002, None),
        (-1.0000000000000002, None),
        (10**400, None),
        (nan, None),
        (inf, None),
        (-inf, None),
    ],
)
def test_tenths(value: float, result: float | None) -> None:
    """Steps of 0.1 are tenths, not what doubles make of them."""
    make = canonical(field("number", minimum=-1, maximum=10, step=0.1))
    assert repr(make(value)) == repr(result)


@pytest.mark.parametrize("precision", [1, 3, 50])
def test_the_precision_of_the_program_does_not_matter(precision: int) -> None:
    """A program that embeds us may set its decimal context as it likes."""
    traps = [decimal.Inexact, decimal.Rounded, decimal.FloatOperation]
    with decimal.localcontext(decimal.Context(prec=precision, traps=traps)):
        of = field("number", minimum=-123.45, maximum=12345.65, step=0.05)
        assert of.size() == 249_383
        make = canonical(of)
        assert make(12345.67 - 0.02) == 12345.65
        assert make(1234.5678) == 1234.55
        assert make(-0.01) == -0.05


def test_extremes() -> None:
    """The smallest and greatest ranges are exact too."""
    fine = field("number", minimum=0, maximum=1, step=1e-15)
    assert fine.size() == 10**15 + 1
    assert canonical(fine)(0.123456789012345678) == 0.123456789012345
    coarse = field("number", minimum=-1e300, maximum=1e300, step=1e290)
    assert coarse.size() == 2 * 10**10 + 1
    assert canonical(coarse)(1.23456789012345678e299) == 1.23456789e299
    assert field("number", minimum=-1e15, maximum=-1e-25, step=1).size() == 10**15


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("integer", {"minimum": 1, "maximum": 9, "step": 2}, "E122"),
        ("integer", {"minimum": 9, "maximum": 1, "step": 1}, "E122"),
        ("integer", {"minimum": 0, "maximum": 9, "step": 0}, "greater_than_equal"),
        ("integer", {"minimum": 0, "maximum": 2**63, "step": 1}, "less_than_equal"),
        ("integer", {"minimum": -(2**63), "maximum": 0, "step": 1}, "greater_than_equal"),
        ("integer", {"minimum": 0, "maximum": 1.0, "step": 1}, "int_type"),
        ("integer", {"minimum": 0, "maximum": "9", "step": 1}, "int_type"),
        ("integer", {"minimum": 0, "maximum": True, "step": 1}, "int_type"),
        ("integer", {"maximum": 9, "step": 1}, "missing"),
        ("integer", {"minimum": -4, "maximum": -4, "step": 2}, None),
        ("number", {"minimum": 0.05, "maximum": 9, "step": 0.1}, "E122"),
        ("number", {"minimum": 1, "maximum": 0, "step": 1}, "E122"),
        ("number", {"minimum": 0, "maximum": 2e15, "step": 1}, "E122"),
        ("number", {"minimum": 0, "maximum": 1e-305, "step": 1e-310}, "E122"),
        ("number", {"minimum": 0, "maximum": 1, "step": 0}, "greater_than"),
        ("number", {"minimum": 0, "maximum": "1", "step": 1}, "float_type"),
        ("number", {"minimum": 0, "maximum": True, "step": 1}, "float_type"),
        ("number", {"minimum": 0, "maximum": 1}, "missing"),
        ("number", {"minimum": -0.3, "maximum": 0.35, "step": 0.1}, None),
        ("number", {"minimum": 0, "maximum": 1e15, "step": 1}, None),
    ],
)
def test_options(kind: str, options: dict[str, Any], code: str | None) -> None:
    """All three are needed, of the right type, and fit together."""
    assert refuses(kind, **options) == code


def test_json_types() -> None:
    """An integer reads whole numbers only; a number reads both; a boolean is neither."""
    of = field("integer", minimum=0, maximum=1, step=1)
    assert of.wire == {int}
    assert field("number", minimum=0, maximum=1, step=1).wire == {int, float}
